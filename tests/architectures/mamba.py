"""Mamba-1 (Gu and Dao 2023): causal depthwise convolution, selective scan step by step."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .llama import RMSNorm


class Mixer(nn.Module):
    def __init__(self, width: int, state: int = 4, kernel: int = 4) -> None:
        super().__init__()
        inner, self.rank, self.state = 2 * width, math.ceil(width / 16), state
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, kernel, padding=kernel - 1, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, state + 1).float()).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def scan(self, u, dt, b, c):
        """``h = exp(dt A) h + dt B u``, ``y = C h + D u``."""
        a = -torch.exp(self.A_log)
        h = u.new_zeros(u.shape[0], u.shape[2], self.state)
        found = []
        for t in range(u.shape[1]):
            h = torch.exp(dt[:, t, :, None] * a) * h
            h = h + (dt[:, t] * u[:, t])[..., None] * b[:, t, None, :]
            found.append((h * c[:, t, None, :]).sum(-1))
        return torch.stack(found, 1) + self.D * u

    def forward(self, x):
        u, z = self.in_proj(x).chunk(2, -1)
        u = F.silu(self.conv1d(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        dt, b, c = self.x_proj(u).split([self.rank, self.state, self.state], -1)
        y = self.scan(u, F.softplus(self.dt_proj(dt)), b, c)
        return self.out_proj(y * F.silu(z))


class Mamba(nn.Module):
    def __init__(self, words: int = 40, width: int = 16, layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(layers))
        self.mixers = nn.ModuleList(Mixer(width) for _ in range(layers))
        self.norm_f, self.lm_head = RMSNorm(width), nn.Linear(width, words, bias=False)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            x = x + mixer(norm(x))
        return self.lm_head(self.norm_f(x))


def build():
    return Mamba(), (torch.randint(0, 40, (1, 8)),)
