"""Small causal networks with random weights, in the IR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from graphs import Builder

from qc.ir import Graph, Value

WORDS = 23


@dataclass(frozen=True)
class Shape:
    """What a decoder is like.

    ``rotary``: None (learned positions), ``"halves"`` or ``"pairs"``; ``mask``: ``"add"``,
    ``"where"``, ``"alibi"`` or ``"none"``; ``norm``: ``"rms"`` or ``"layer"``.
    """

    batch: int = 1
    length: int = 8
    heads: int = 4
    shared: int = 2
    size: int = 4
    rotary: str | None = "halves"
    mask: str = "add"
    norm: str = "rms"
    layers: int = 2
    seed: int = 0

    @property
    def width(self) -> int:
        """Of the residual stream."""
        return self.heads * self.size


class Decoder(Builder):
    """Writes the network of a :class:`Shape`; ``token`` is its input."""

    def __init__(self, s: Shape) -> None:
        super().__init__((s.batch, s.length), s.seed, "int64")
        self.dtype = "float32"
        self.s = s
        angles = np.arange(s.length)[:, None] * 0.3 ** np.arange(s.size // 2)
        pairs = np.repeat(angles, 2, -1) if s.rotary == "pairs" else np.concatenate([angles] * 2, 1)
        self.cos, self.sin = self.const(np.cos(pairs)), self.const(np.sin(pairs))

    def build(self) -> Graph:
        s = self.s
        x = self.op("Gather", self.normal(WORDS, s.width, scale=1), self.x)
        if s.rotary is None:
            x = self.op("Add", x, self.normal(s.length, s.width, scale=1))
        for _ in range(s.layers):
            x = self.op("Add", x, self.attention(self.norm(x)))
            y = self.norm(x)
            gate = self.op("Silu", self.op("MatMul", y, self.normal(s.width, 20)))
            up = self.op("MatMul", y, self.normal(s.width, 20))
            x = self.op(
                "Add", x, self.op("MatMul", self.op("Mul", gate, up), self.normal(20, s.width))
            )
        logits = self.op("MatMul", self.norm(x), self.normal(s.width, WORDS), names=("logits",))
        return self.done(logits)

    def norm(self, x: Value) -> Value:
        gamma = self.const(self.rng.uniform(0.5, 1.5, self.s.width))
        if self.s.norm == "rms":
            return self.op("RMSNormalization", x, gamma)
        return self.op("LayerNormalization", x, gamma, self.normal(self.s.width))

    def attention(self, x: Value) -> Value:
        s = self.s
        q, k, v = (self.split(x, n) for n in (s.heads, s.shared, s.shared))
        if s.rotary:
            q, k = self.rotate(q), self.rotate(k)
        if s.shared != s.heads:
            k, v = self.repeat(k), self.repeat(v)
        k = self.op("Transpose", k, perm=(0, 1, 3, 2))
        scores = self.op("Mul", self.op("MatMul", q, k), self.const(s.size**-0.5))
        weights = self.op("Softmax", self.masked(scores))
        y = self.op("Transpose", self.op("MatMul", weights, v), perm=(0, 2, 1, 3))
        y = self.op("Reshape", y, shape=(s.batch, s.length, s.width))
        return self.op("MatMul", y, self.normal(s.width, s.width))

    def split(self, x: Value, heads: int) -> Value:
        s = self.s
        y = self.op("MatMul", x, self.normal(s.width, heads * s.size))
        y = self.op("Reshape", y, shape=(s.batch, s.length, heads, s.size))
        return self.op("Transpose", y, perm=(0, 2, 1, 3))

    def rotate(self, x: Value) -> Value:
        half = self.s.size // 2
        if self.s.rotary == "pairs":
            order = np.arange(self.s.size) ^ 1
            sign = np.tile([-1.0, 1.0], half)
        else:
            order, sign = np.roll(np.arange(self.s.size), half), np.repeat([-1.0, 1.0], half)
        other = self.op("Gather", x, self.graph.constant(order), axis=3)
        turned = self.op("Mul", self.op("Mul", other, self.const(sign)), self.sin)
        return self.op("Add", self.op("Mul", x, self.cos), turned)

    def repeat(self, x: Value) -> Value:
        s = self.s
        times = s.heads // s.shared
        y = self.op("Unsqueeze", x, axes=(2,))
        y = self.op("Expand", y, shape=(s.batch, s.shared, times, s.length, s.size))
        return self.op("Reshape", y, shape=(s.batch, s.heads, s.length, s.size))

    def masked(self, scores: Value) -> Value:
        n = self.s.length
        past = np.tri(n, dtype=bool)
        if self.s.mask == "none":
            return scores
        if self.s.mask == "where":
            return self.op("Where", self.graph.constant(past), scores, self.const(-np.inf))
        far = np.arange(n) - np.arange(n)[:, None]
        slopes = 2.0 ** -np.arange(self.s.heads) if self.s.mask == "alibi" else np.zeros(1)
        bias = np.where(past, far * slopes[:, None, None], -1e9)
        return self.op("Add", scores, self.const(bias[None]))


def decoder(s: Shape) -> Graph:
    """The network."""
    return Decoder(s).build()


def tokens_of(s: Shape, seed: int = 1, length: int = 0) -> np.ndarray:
    """Random tokens."""
    return np.random.default_rng(seed).integers(0, WORDS, (s.batch, length or s.length))
