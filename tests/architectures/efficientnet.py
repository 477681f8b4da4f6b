"""EfficientNet (Tan and Le 2019): MBConv with SiLU and squeeze and excitation."""

import torch
from torch import nn
from torch.nn import functional as F


class MBConv(nn.Module):
    def __init__(self, inside: int, out: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inside * expand
        self.residual = stride == 1 and inside == out
        self.expand = nn.Conv2d(inside, wide, 1, bias=False) if expand > 1 else nn.Identity()
        self.bn0 = nn.BatchNorm2d(wide) if expand > 1 else nn.Identity()
        self.depthwise = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.reduce = nn.Conv2d(wide, max(inside // 4, 1), 1)
        self.excite = nn.Conv2d(max(inside // 4, 1), wide, 1)
        self.project = nn.Conv2d(wide, out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x):
        y = F.silu(self.bn0(self.expand(x)))
        y = F.silu(self.bn1(self.depthwise(y)))
        gate = y.mean((2, 3), keepdim=True)
        y = y * torch.sigmoid(self.excite(F.silu(self.reduce(gate))))
        y = self.bn2(self.project(y))
        return x + y if self.residual else y


class EfficientNet(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 16, 3, 2, bias=False), nn.BatchNorm2d(16),
            nn.SiLU(),
        )  # fmt: skip
        self.blocks = nn.Sequential(
            MBConv(16, 16, 1, 3, 1), MBConv(16, 24, 4, 3, 2), MBConv(24, 24, 4, 5, 1)
        )
        self.head = nn.Sequential(nn.Conv2d(24, 64, 1, bias=False), nn.BatchNorm2d(64), nn.SiLU())
        self.fc = nn.Linear(64, classes)

    def forward(self, image):
        return self.fc(self.head(self.blocks(self.stem(image))).mean((-2, -1)))


def build():
    return EfficientNet(), (torch.randn(1, 3, 32, 32),)
