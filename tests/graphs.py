"""Small networks for tests, made in the IR directly."""

from __future__ import annotations

import numpy as np

from qc.ir import Graph, TensorType, Value
from qc.ir.ops import OPS


class Builder:
    """Writes graphs tersely: every method adds one op and gives its first result."""

    def __init__(
        self, shape: tuple[int, ...] = (1, 3, 8, 8), seed: int = 0, dtype: str = "float32"
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = Graph("test")
        self.dtype = dtype
        self.x = self.graph.input("x", TensorType(dtype, shape))

    def op(
        self, name: str, *inputs: Value, names: tuple[str, ...] = (), **attributes: object
    ) -> Value:
        return self.graph.add(OPS[name](**attributes), inputs, names=names).output

    def const(self, array: object, name: str = "c") -> Value:
        return self.graph.constant(np.asarray(array, self.dtype), name)

    def normal(self, *shape: int, scale: float = 0.3) -> Value:
        return self.const(self.rng.normal(0, scale, shape), "w")

    def conv(
        self, x: Value, channels: int, kernel: int = 3, stride: int = 1, group: int = 1
    ) -> Value:
        w = self.normal(channels, x.shape[1] // group, kernel, kernel)
        b = self.normal(channels, scale=0.1)
        pads = (kernel // 2,) * 4
        return self.op("Conv", x, w, b, pads=pads, strides=(stride, stride), group=group)

    def batch_norm(self, x: Value) -> Value:
        n = x.shape[1]
        gamma, beta = self.rng.uniform(0.5, 1.5, n), self.rng.normal(0, 0.2, n)
        mean, variance = self.rng.normal(0, 0.2, n), self.rng.uniform(0.5, 1.5, n)
        return self.op("BatchNormalization", x, *map(self.const, (gamma, beta, mean, variance)))

    def linear(self, x: Value, features: int) -> Value:
        w, b = self.normal(features, x.shape[1]), self.normal(features, scale=0.1)
        return self.op("Gemm", x, w, b, trans_b=True)

    def done(self, *outputs: Value) -> Graph:
        self.graph.outputs = list(outputs)
        return self.graph

    def feeds(self, count: int = 6) -> list[dict[str, np.ndarray]]:
        shape = self.x.shape
        return [{"x": self.rng.normal(0, 1, shape).astype(np.float32)} for _ in range(count)]


def three_convolutions() -> Builder:
    """Workloads enough for a search of many seconds, so that it can be interrupted."""
    b = Builder((1, 16, 6, 6))
    x = b.x
    for channels in (32, 48, 64):
        x = b.op("Relu", b.conv(x, channels))
    b.done(x)
    return b


def residual_net(seed: int = 0) -> Builder:
    """Batch norm, residual add, depthwise, SiLU, concat, pooling, a linear classifier, softmax."""
    b = Builder(seed=seed)
    stem = b.op("Relu", b.batch_norm(b.conv(b.x, 16)))
    body = b.batch_norm(b.conv(b.op("Relu", b.batch_norm(b.conv(stem, 16))), 16))
    block = b.op("Relu", b.op("Add", body, stem))
    deep = b.conv(block, 16, group=16)
    gated = b.op("Mul", deep, b.op("Sigmoid", deep))
    joined = b.op("MaxPool", b.op("Concat", gated, block, axis=1), kernel=(2, 2), strides=(2, 2))
    last = b.op("Relu", b.conv(joined, 32))
    pooled = b.op("Flatten", b.op("GlobalAveragePool", last), axis=1)
    b.done(b.op("Softmax", b.linear(pooled, 10), names=("prob",)))
    return b
