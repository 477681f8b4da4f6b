"""Vision Mamba (Zhu et al. 2024): patches, a class token in the middle, scans both ways."""

import torch
from torch import nn

from .llama import RMSNorm
from .mamba import Mixer


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.forwards, self.backwards = RMSNorm(width), Mixer(width), Mixer(width)

    def forward(self, x):
        y = self.norm(x)
        return x + self.forwards(y) + self.backwards(y.flip([1])).flip([1])


class Vim(nn.Module):
    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.pos = nn.Parameter(torch.randn(1, 5, width) * 0.1)
        self.layers = nn.Sequential(Layer(width))
        self.norm, self.head = RMSNorm(width), nn.Linear(width, classes)

    def forward(self, image):
        x = self.patch(image).flatten(2).transpose(1, 2)
        half = x.shape[1] // 2
        token = self.token.expand(x.shape[0], -1, -1)
        x = torch.cat((x[:, :half], token, x[:, half:]), dim=1) + self.pos
        return self.head(self.norm(self.layers(x))[:, half])


def build():
    return Vim(), (torch.randn(1, 3, 16, 16),)
