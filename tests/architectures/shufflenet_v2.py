"""ShuffleNetV2 (Ma et al. 2018): channels are split, joined and shuffled."""

import torch
from torch import nn


def shuffle(x, groups: int):
    n, c, h, w = x.shape
    x = x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous()
    return x.view(n, c, h, w)


def pointwise(inside: int, out: int):
    return nn.Sequential(nn.Conv2d(inside, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


def depthwise(width: int, stride: int):
    conv = nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width))


class Unit(nn.Module):
    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.stride, half = stride, out // 2
        if stride > 1:
            self.left = nn.Sequential(depthwise(inside, stride), pointwise(inside, half))
        self.right = nn.Sequential(
            pointwise(inside if stride > 1 else half, half), depthwise(half, stride),
            pointwise(half, half),
        )  # fmt: skip

    def forward(self, x):
        if self.stride == 1:
            a, b = x.chunk(2, dim=1)
            y = torch.cat((a, self.right(b)), 1)
        else:
            y = torch.cat((self.left(x), self.right(x)), 1)
        return shuffle(y, 2)


class ShuffleNetV2(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.stages = nn.Sequential(Unit(16, 32, 2), Unit(32, 32, 1), Unit(32, 48, 2))
        self.last, self.fc = pointwise(48, 64), nn.Linear(64, classes)

    def forward(self, image):
        return self.fc(self.last(self.stages(self.stem(image))).mean([2, 3]))


def build():
    return ShuffleNetV2(), (torch.randn(1, 3, 32, 32),)
