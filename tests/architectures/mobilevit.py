"""MobileViT (Mehta and Rastegari 2021): a transformer over patches between convolutions."""

import torch
from torch import nn

from .mobilenet_v3 import unit


class MobileViTBlock(nn.Module):
    def __init__(self, channels: int, width: int, patch: int = 2) -> None:
        super().__init__()
        self.patch = patch
        self.local = nn.Sequential(
            unit(channels, channels, 3, act=nn.SiLU()), nn.Conv2d(channels, width, 1, bias=False)
        )
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, 0.0, nn.functional.silu, batch_first=True, norm_first=True
        )
        self.transformer = nn.ModuleList([layer])
        self.norm = nn.LayerNorm(width)
        self.project = unit(width, channels, 1, act=nn.SiLU())
        self.fuse = unit(2 * channels, channels, 3, act=nn.SiLU())

    def forward(self, x):
        y, p = self.local(x), self.patch
        b, c, h, w = y.shape
        y = y.reshape(b * c * (h // p), p, w // p, p).transpose(1, 2)
        y = y.reshape(b, c, h * w // p // p, p * p).transpose(1, 3)
        y = y.reshape(b * p * p, h * w // p // p, c)
        for layer in self.transformer:
            y = layer(y)
        y = self.norm(y).view(b, p * p, h * w // p // p, c).transpose(1, 3)
        y = y.reshape(b * c * (h // p), w // p, p, p).transpose(1, 2).reshape(b, c, h, w)
        return self.fuse(torch.cat((x, self.project(y)), 1))


class MobileViT(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = unit(3, 16, 3, 2, act=nn.SiLU())
        self.down = unit(16, 32, 3, 2, act=nn.SiLU())
        self.block = MobileViTBlock(32, 32)
        self.head = unit(32, 64, 1, act=nn.SiLU())
        self.fc = nn.Linear(64, classes)

    def forward(self, image):
        x = self.head(self.block(self.down(self.stem(image))))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1))


def build():
    return MobileViT(), (torch.randn(1, 3, 32, 32),)
