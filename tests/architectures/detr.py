"""A decoder like DETR's (Carion et al. 2020): queries attend to themselves and to an image."""

import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, target, memory, where, queries):
        q = k = target + queries
        target = self.norm1(target + self.self_attn(q, k, target, need_weights=False)[0])
        cross = self.cross_attn(target + queries, memory + where, memory, need_weights=False)[0]
        target = self.norm2(target + cross)
        return self.norm3(target + self.linear2(torch.relu(self.linear1(target))))


class Detr(nn.Module):
    def __init__(self, width: int = 32, queries: int = 6, classes: int = 5) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, width, 3, 2, 1), nn.ReLU()
        )
        self.rows = nn.Parameter(torch.rand(8, width // 2))
        self.columns = nn.Parameter(torch.rand(8, width // 2))
        self.query = nn.Embedding(queries, width)
        self.layers = nn.ModuleList([Layer(width, 4), Layer(width, 4)])
        self.classes = nn.Linear(width, classes)
        self.boxes = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))

    def forward(self, image):
        x = self.backbone(image)
        b, _, h, w = x.shape
        where = torch.cat(
            [
                self.columns[:w].unsqueeze(0).repeat(h, 1, 1),
                self.rows[:h].unsqueeze(1).repeat(1, w, 1),
            ],
            dim=-1,
        ).flatten(0, 1)
        memory = x.flatten(2).permute(0, 2, 1)
        queries = self.query.weight.unsqueeze(0).repeat(b, 1, 1)
        target = torch.zeros_like(queries)
        for layer in self.layers:
            target = layer(target, memory, where, queries)
        return {"logits": self.classes(target), "boxes": self.boxes(target).sigmoid()}


def build():
    return Detr(), (torch.randn(1, 3, 32, 32),)
