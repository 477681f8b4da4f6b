"""Llama (Touvron et al. 2023): RMSNorm, rotary positions, shared keys and values, SwiGLU."""

import torch
from torch import nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


def rotated(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b, a), dim=-1)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, shared: int) -> None:
        super().__init__()
        self.heads, self.shared, self.size = heads, shared, width // heads
        self.q_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (
            nn.Linear(width, shared * self.size, bias=False) for _ in range(2)
        )

    def forward(self, x, cos, sin):
        b, t, c = x.shape
        q = self.q_proj(x).view(b, t, self.heads, self.size).transpose(1, 2)
        k = self.k_proj(x).view(b, t, self.shared, self.size).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.shared, self.size).transpose(1, 2)
        q, k = q * cos + rotated(q) * sin, k * cos + rotated(k) * sin
        k, v = (self._repeat(y) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, c))

    def _repeat(self, x):
        b, _, t, d = x.shape
        times = self.heads // self.shared
        return x[:, :, None].expand(b, self.shared, times, t, d).reshape(b, self.heads, t, d)


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, shared: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, shared)
        self.gate_proj, self.up_proj = (nn.Linear(width, 80, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(80, width, bias=False)
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(width), RMSNorm(width)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        y = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))


class Llama(nn.Module):
    def __init__(self, words: int = 64, width: int = 32, heads: int = 4, shared: int = 2) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(words, width)
        self.layers = nn.ModuleList([Layer(width, heads, shared) for _ in range(2)])
        self.norm, self.lm_head = RMSNorm(width), nn.Linear(width, words, bias=False)
        size = width // heads
        self.register_buffer("inv_freq", 10000 ** -(torch.arange(0, size, 2).float() / size))

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1], device=tokens.device)
        angles = places[:, None].float() * self.inv_freq[None, :]
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos(), angles.sin()
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.norm(x))


def build():
    return Llama(), (torch.randint(0, 64, (1, 12)),)
