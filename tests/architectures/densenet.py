"""DenseNet (Huang et al. 2017): every layer reads all layers before it."""

import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self, inside: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = (
            nn.BatchNorm2d(inside),
            nn.Conv2d(inside, 4 * growth, 1, bias=False),
        )
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features):
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.norm2(x)))


class Dense(nn.Module):
    def __init__(self, inside: int, growth: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(inside + i * growth, growth) for i in range(count))

    def forward(self, x):
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = Dense(16, 8, 3)
        self.transition = nn.Sequential(
            nn.BatchNorm2d(40), nn.ReLU(), nn.Conv2d(40, 20, 1, bias=False), nn.AvgPool2d(2, 2)
        )
        self.block2 = Dense(20, 8, 2)
        self.norm, self.classifier = nn.BatchNorm2d(36), nn.Linear(36, classes)

    def forward(self, image):
        x = F.avg_pool2d(self.conv0(image), 3, 2, 1)
        x = self.block2(self.transition(self.block1(x)))
        x = F.adaptive_avg_pool2d(F.relu(self.norm(x), inplace=True), (1, 1))
        return self.classifier(torch.flatten(x, 1))


def build():
    return DenseNet(), (torch.randn(1, 3, 32, 32),)
