"""BERT (Devlin et al. 2018): three embeddings, post-norm layers, an attention mask, a pooler."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output, self.norm1 = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-12)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)

    def _heads(self, x):
        return x.view(*x.shape[:2], self.heads, -1).permute(0, 2, 1, 3)

    def forward(self, x, mask):
        q, k, v = (self._heads(f(x)) for f in (self.query, self.key, self.value))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1]) + mask
        context = torch.matmul(F.softmax(scores, dim=-1), v).permute(0, 2, 1, 3).contiguous()
        x = self.norm1(x + self.output(context.view(*context.shape[:2], -1)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    def __init__(self, words: int = 60, length: int = 16, width: int = 32) -> None:
        super().__init__()
        self.word = nn.Embedding(words, width, padding_idx=0)
        self.position, self.kind = nn.Embedding(length, width), nn.Embedding(2, width)
        self.register_buffer("ids", torch.arange(length).expand(1, -1))
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList([Layer(width, 4), Layer(width, 4)])
        self.pooler, self.classifier = nn.Linear(width, width), nn.Linear(width, 3)

    def forward(self, input_ids, attention_mask):
        places = self.ids[:, : input_ids.shape[1]]
        x = self.word(input_ids) + self.position(places) + self.kind(torch.zeros_like(input_ids))
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask)
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))


def build():
    mask = torch.ones(1, 16, dtype=torch.int64)
    mask[:, 12:] = 0
    return Bert(), (torch.randint(0, 60, (1, 16)), mask)
