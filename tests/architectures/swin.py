"""Swin transformer (Liu et al. 2021): shifted windows, relative positions, patch merging."""

import torch
from torch import nn


def windows(x, size: int):
    b, h, w, c = x.shape
    x = x.view(b, h // size, size, w // size, size, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, c)


def together(x, size: int, h: int, w: int):
    b = x.shape[0] // (h * w // size // size)
    x = x.view(b, h // size, w // size, size, size, -1)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, -1)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, size: int, shift: int, side: int) -> None:
        super().__init__()
        self.heads, self.size, self.shift, self.side = heads, size, shift, side
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn((2 * size - 1) ** 2, heads) * 0.1)
        grid = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij"))
        flat = grid.flatten(1)
        apart = (flat[:, :, None] - flat[:, None, :]).permute(1, 2, 0) + size - 1
        self.register_buffer("places", apart[..., 0] * (2 * size - 1) + apart[..., 1])
        self.register_buffer("mask", self._mask() if shift else None)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def _mask(self):
        """Tokens of different regions, which the shift brings together, do not meet."""
        regions = torch.zeros(1, self.side, self.side, 1)
        cuts = (slice(0, -self.size), slice(-self.size, -self.shift), slice(-self.shift, None))
        for i, rows in enumerate(cuts):
            for j, columns in enumerate(cuts):
                regions[:, rows, columns] = 3 * i + j
        own = windows(regions, self.size).squeeze(-1)
        return torch.where(own[:, None, :] == own[:, :, None], 0.0, -100.0)

    def attention(self, x):
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0] * (c // self.heads) ** -0.5, qkv[1], qkv[2]
        bias = self.table[self.places.view(-1)].view(n, n, -1).permute(2, 0, 1)
        scores = q @ k.transpose(-2, -1) + bias.unsqueeze(0)
        if self.mask is not None:
            count = self.mask.shape[0]
            scores = scores.view(b // count, count, self.heads, n, n) + self.mask[None, :, None]
            scores = scores.view(-1, self.heads, n, n)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))

    def forward(self, x):
        h = w = self.side
        y = self.norm1(x)
        if self.shift:
            y = torch.roll(y, shifts=(-self.shift, -self.shift), dims=(1, 2))
        y = together(self.attention(windows(y, self.size)), self.size, h, w)
        if self.shift:
            y = torch.roll(y, shifts=(self.shift, self.shift), dims=(1, 2))
        x = x + y
        return x + self.mlp(self.norm2(x))


class Merge(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x):
        quarters = [x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(quarters, -1)))


class Swin(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.layers = nn.Sequential(Block(16, 2, 4, 0, 8), Block(16, 2, 4, 2, 8), Merge(16),
                                    Block(32, 4, 4, 0, 4))  # fmt: skip
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, classes)

    def forward(self, image):
        x = self.layers(self.patch(image).permute(0, 2, 3, 1))
        return self.head(self.norm(x).mean((1, 2)))


def build():
    return Swin(), (torch.randn(1, 3, 32, 32),)
