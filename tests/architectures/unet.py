"""U-Net (Ronneberger et al. 2015): two ways up, transposed convolution and interpolation."""

import torch
from torch import nn
from torch.nn import functional as F


def double(inside: int, out: int):
    return nn.Sequential(
        nn.Conv2d(inside, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
        nn.Conv2d(out, out, 3, padding=1), nn.GroupNorm(4, out), nn.LeakyReLU(0.1, inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.inc, self.down1, self.down2 = double(3, 16), double(16, 32), double(32, 48)
        self.up1 = nn.ConvTranspose2d(48, 32, 2, stride=2)
        self.conv1 = double(64, 32)
        self.conv2 = double(48, 16)
        self.outc = nn.Conv2d(16, classes, 1)

    def forward(self, image):
        a = self.inc(image)
        b = self.down1(F.max_pool2d(a, 2))
        c = self.down2(F.max_pool2d(b, 2))
        y = self.conv1(torch.cat([b, self.up1(c)], dim=1))
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        return self.outc(self.conv2(torch.cat([a, y], dim=1)))


def build():
    return UNet(), (torch.randn(1, 3, 32, 32),)
