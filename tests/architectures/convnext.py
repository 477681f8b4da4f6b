"""ConvNeXt (Liu et al. 2022): depthwise 7x7, LayerNorm with channels last, layer scale."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.rand(width))

    def forward(self, x):
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        power = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(power + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class ConvNeXt(nn.Module):
    def __init__(self, widths=(16, 32), classes: int = 10) -> None:
        super().__init__()
        a, b = widths
        self.stem = nn.Sequential(nn.Conv2d(3, a, 4, 4), LayerNorm2d(a))
        self.stage1 = Block(a)
        self.down = nn.Sequential(LayerNorm2d(a), nn.Conv2d(a, b, 2, 2))
        self.stage2 = Block(b)
        self.norm, self.head = nn.LayerNorm(b), nn.Linear(b, classes)

    def forward(self, image):
        x = self.stage2(self.down(self.stage1(self.stem(image))))
        return self.head(self.norm(x.mean([-2, -1])))


def build():
    return ConvNeXt(), (torch.randn(1, 3, 32, 32),)
