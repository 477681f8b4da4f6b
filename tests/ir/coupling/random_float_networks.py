"""Random networks of everything that couples channels, in float64: exact is then 1e-9."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from graphs import Builder

from qc.ir import Graph, Value
from qc.ir.ops.shape import Split

CHANNELS = (4, 6, 8, 12, 16)


class Maps:
    """Grows a network of maps ``[1, C, 6, 6]``; ends in a classifier."""

    def __init__(self, seed: int) -> None:
        self.b = Builder((1, 3, 6, 6), seed, "float64")
        self.rng = np.random.default_rng(seed)
        self.values = [self.b.conv(self.b.x, self.one(CHANNELS))]
        self.steps: tuple[Callable[[Value], Value], ...] = (
            self.conv, self.pointwise, self.depthwise, self.multiplied, self.grouped, self.norm,
            self.group_norm, self.residual, self.concat, self.split, self.shuffle, self.squeeze,
            self.activation, self.slice, self.pad, self.deconv, self.shifted, self.deep,
            self.weighed, self.homogeneous, self.difference, self.blurred, self.border,
        )  # fmt: skip

    def grow(self, steps: int) -> Graph:
        for _ in range(steps):
            x = self.values[-1] if self.rng.random() < 0.7 else self.one(self.values)
            self.values.append(self.one(self.steps)(x))
        b, last = self.b, self.values[-1]
        if self.rng.random() < 0.5:
            last = b.op("MaxPool", last, kernel=(2, 2), strides=(2, 2))
        else:
            last = b.op("GlobalAveragePool", last)
        return b.done(b.linear(b.op("Flatten", last), 5))

    def one(self, choices: object) -> object:
        return choices[int(self.rng.integers(len(choices)))]  # type: ignore[arg-type,index]

    def conv(self, x: Value) -> Value:
        return self.b.conv(x, self.one(CHANNELS))

    def pointwise(self, x: Value) -> Value:
        return self.b.conv(x, self.one(CHANNELS), 1)

    def depthwise(self, x: Value) -> Value:
        return self.b.conv(x, x.shape[1], group=x.shape[1])

    def multiplied(self, x: Value) -> Value:
        return self.b.conv(x, 2 * x.shape[1], group=x.shape[1])

    def grouped(self, x: Value) -> Value:
        return self.b.conv(x, 2 * self.one(CHANNELS), group=2 if x.shape[1] % 2 == 0 else 1)

    def deconv(self, x: Value) -> Value:
        w = self.b.normal(x.shape[1], self.one(CHANNELS), 3, 3)
        return self.b.op("ConvTranspose", x, w, pads=(1, 1, 1, 1))

    def norm(self, x: Value) -> Value:
        return self.b.batch_norm(x)

    def group_norm(self, x: Value) -> Value:
        n = x.shape[1]
        weights = (self.b.normal(n), self.b.normal(n))
        return self.b.op("GroupNormalization", x, *weights, num_groups=2 if n % 2 == 0 else 1)

    def residual(self, x: Value) -> Value:
        equal = [v for v in self.values if v.shape == x.shape]
        return self.b.op("Add", x, self.one(equal))

    def concat(self, x: Value) -> Value:
        other = self.one(self.values)
        return self.pointwise(x) if other.shape[1] > 40 else self.b.op("Concat", x, other, axis=1)

    def split(self, x: Value) -> Value:
        first = int(self.rng.integers(1, x.shape[1]))
        node = self.b.graph.add(Split(axis=1, sizes=(first, x.shape[1] - first)), [x])
        return self.b.op("Concat", *node.outputs[::-1], axis=1)

    def shuffle(self, x: Value) -> Value:
        n = x.shape[1]
        if n % 2:
            return self.activation(x)
        y = self.b.op("Reshape", x, shape=(1, 2, n // 2, 6, 6))
        y = self.b.op("Transpose", y, perm=(0, 2, 1, 3, 4))
        return self.b.op("Reshape", y, shape=(1, -1, 6, 6))

    def squeeze(self, x: Value) -> Value:
        gate = self.b.op("Relu", self.b.conv(self.b.op("GlobalAveragePool", x), 4, 1))
        return self.b.op("Mul", x, self.b.op("Sigmoid", self.b.conv(gate, x.shape[1], 1)))

    def activation(self, x: Value) -> Value:
        return self.b.op(self.one(("Relu", "Silu", "Tanh", "HardSwish", "Sigmoid")), x)

    def slice(self, x: Value) -> Value:
        n = x.shape[1]
        step = int(self.one((1, 1, 2)))
        start = int(self.rng.integers(0, n // 2))
        return self.b.op("Slice", x, starts=(start,), ends=(n,), axes=(1,), steps=(step,))

    def pad(self, x: Value) -> Value:
        return self.b.op("Pad", x, pads=(0, 2, 0, 0, 0, 1, 0, 0), value=0.5)

    def shifted(self, x: Value) -> Value:
        return self.b.op("Add", x, self.b.normal(x.shape[1], 1, 1))

    def weighed(self, x: Value) -> Value:
        return self.b.op(self.one(("Mul", "Div")), x, self.b.const(self.positive(x), "w"))

    def positive(self, x: Value) -> np.ndarray:
        return self.rng.uniform(0.5, 2, (x.shape[1], 1, 1))

    def homogeneous(self, x: Value) -> Value:
        if self.rng.random() < 0.3:
            return self.b.op("Clip", x, min=0.0)
        return self.b.op(self.one(("LeakyRelu", "Abs", "Neg", "Relu")), x)

    def difference(self, x: Value) -> Value:
        equal = [v for v in self.values if v.shape == x.shape]
        return self.b.op(self.one(("Sub", "Max", "Min")), x, self.one(equal))

    def blurred(self, x: Value) -> Value:
        name = self.one(("AveragePool", "MaxPool"))
        extra = {"count_include_pad": self.rng.random() < 0.5} if name == "AveragePool" else {}
        return self.b.op(name, x, kernel=(3, 3), pads=(1, 1, 1, 1), **extra)

    def border(self, x: Value) -> Value:
        """A border of zeros that a convolution without padding takes off again."""
        y = self.b.op("Pad", x, pads=(0, 0, 1, 1, 0, 0, 1, 1))
        return self.b.op("Conv", y, self.b.normal(self.one(CHANNELS), x.shape[1], 3, 3))

    def deep(self, x: Value) -> Value:
        y = self.b.op("SpaceToDepth", x, blocksize=2)
        return self.b.op("DepthToSpace", y, blocksize=2, mode="DCR")


def transformer(seed: int) -> Graph:
    """Embedding, blocks of grouped-query attention and GLU with RMS norms, a tied classifier."""
    rng = np.random.default_rng(seed)
    b = Builder((1, 5, 3), seed, "float64")
    kv, rep, dim = (int(rng.choice(c)) for c in ((1, 2, 3), (1, 2), (2, 4)))
    width = int(rng.choice((6, 8, 12)))
    embedding = b.normal(3, width)
    x = b.op("MatMul", b.x, embedding)
    for _ in range(int(rng.integers(1, 3))):
        x = b.op("Add", x, attention(b, _rms(b, x), kv, rep, dim, width))
        x = b.op("Add", x, _glu(b, _rms(b, x), int(rng.choice((4, 6, 10))), width))
    return b.done(b.op("MatMul", x, b.op("Transpose", embedding, perm=(1, 0))))


def encoder(seed: int) -> Graph:
    """Layer norms, attention with separate projections, a ReLU between two layers with biases."""
    rng = np.random.default_rng(seed)
    b = Builder((1, 5, 3), seed, "float64")
    heads, dim = int(rng.choice((1, 2, 3))), int(rng.choice((2, 4)))
    width, inner = int(rng.choice((6, 8))), int(rng.choice((5, 9)))
    x = b.op("Add", b.op("MatMul", b.x, b.normal(3, width)), b.normal(5, width))
    for _ in range(int(rng.integers(1, 3))):
        x = b.op("Add", x, attention(b, _layer_norm(b, x), heads, 1, dim, width))
        hidden = b.op(
            str(rng.choice(("Relu", "Gelu", "Identity"))), _biased(b, _layer_norm(b, x), inner)
        )
        x = b.op("Add", x, _biased(b, hidden, width))
    return b.done(_biased(b, _layer_norm(b, x), 4))


def _layer_norm(b: Builder, x: Value) -> Value:
    return b.op("LayerNormalization", x, b.normal(x.shape[-1], scale=1.0), b.normal(x.shape[-1]))


def _biased(b: Builder, x: Value, width: int) -> Value:
    return b.op("Add", b.op("MatMul", x, b.normal(x.shape[-1], width)), b.normal(width))


def _rms(b: Builder, x: Value) -> Value:
    return b.op("RMSNormalization", x, b.normal(x.shape[-1], scale=1.0), epsilon=1e-2)


def _glu(b: Builder, x: Value, inner: int, width: int) -> Value:
    gate = b.op("Silu", b.op("MatMul", x, b.normal(width, inner)))
    up = b.op("MatMul", x, b.normal(width, inner))
    return b.op("MatMul", b.op("Mul", gate, up), b.normal(inner, width))


def attention(b: Builder, x: Value, kv: int, rep: int, dim: int, width: int) -> Value:
    """Grouped queries: ``kv`` heads of keys, each read by ``rep`` query heads of ``dim``."""
    heads = kv * rep
    length = x.shape[1]

    def project(count: int) -> Value:
        y = b.op("MatMul", x, b.normal(width, count * dim))
        y = b.op("Reshape", b.op("Add", y, b.normal(count * dim)), shape=(0, 0, count, dim))
        return b.op("Transpose", y, perm=(0, 2, 1, 3))

    def repeated(y: Value) -> Value:
        y = b.op("Expand", b.op("Unsqueeze", y, axes=(2,)), shape=(1, kv, rep, length, dim))
        return b.op("Reshape", y, shape=(1, heads, length, dim))

    q, k, v = project(heads), repeated(project(kv)), repeated(project(kv))
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=(0, 1, 3, 2)))
    y = b.op("MatMul", b.op("Softmax", scores), v)
    y = b.op("Reshape", b.op("Transpose", y, perm=(0, 2, 1, 3)), shape=(0, 0, heads * dim))
    return b.op("MatMul", y, b.normal(heads * dim, width))
