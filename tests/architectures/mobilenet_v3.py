"""MobileNetV3 (Howard et al. 2019): inverted residuals, squeeze and excitation, hard swish."""

import torch
from torch import nn


class Excite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(channels, channels // 4, 1)
        self.up = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x):
        y = torch.relu(self.down(self.pool(x)))
        return x * nn.functional.hardsigmoid(self.up(y))


def unit(inside: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act=None):
    parts = [nn.Conv2d(inside, out, kernel, stride, kernel // 2, groups=groups, bias=False)]
    return nn.Sequential(*parts, nn.BatchNorm2d(out), *([act] if act else []))


class Inverted(nn.Module):
    def __init__(self, inside, wide, out, kernel, stride, excite, act) -> None:
        super().__init__()
        self.residual = stride == 1 and inside == out
        self.body = nn.Sequential(
            unit(inside, wide, 1, act=act()),
            unit(wide, wide, kernel, stride, wide, act()),
            Excite(wide) if excite else nn.Identity(),
            unit(wide, out, 1),
        )

    def forward(self, x):
        y = self.body(x)
        return x + y if self.residual else y


class MobileNetV3(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            unit(3, 16, 3, 2, act=nn.Hardswish()),
            Inverted(16, 16, 16, 3, 1, True, nn.ReLU),
            Inverted(16, 48, 24, 3, 2, False, nn.ReLU),
            Inverted(24, 64, 24, 5, 1, True, nn.Hardswish),
            unit(24, 96, 1, act=nn.Hardswish()),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Sequential(
            nn.Linear(96, 64), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(64, classes)
        )

    def forward(self, image):
        return self.classifier(torch.flatten(self.features(image), 1))


def build():
    return MobileNetV3(), (torch.randn(1, 3, 32, 32),)
