"""Networks with outlier channels, and their sites as solvers see them."""

from __future__ import annotations

import numpy as np
from graphs import Builder

from qc.ir.graph import Graph
from qc.passes.context import Context
from qc.passes.equalizing.layer_scales import LayerScales
from qc.passes.equalizing.network import Network
from qc.passes.equalizing.precision import Precision

LOUD = (2, 9)


def normed(
    seed: int = 0, dtype: str = "float64", norm: str = "LayerNormalization", readers: int = 1
) -> Builder:
    """A norm with two loud channels off the middle, and layers that read it."""
    b = Builder((1, 24, 16), seed=seed, dtype=dtype)
    gain, bias = b.rng.uniform(0.5, 2, 16), b.rng.normal(0, 0.3, 16)
    gain[list(LOUD)], bias[list(LOUD)] = (40, 25), (60, -30)
    weights = [b.const(gain, "g"), b.const(bias, "b")][: 2 if norm == "LayerNormalization" else 1]
    y = b.op(norm, b.op("MatMul", b.x, b.normal(16, 16, scale=1.0)), *weights)
    made = []
    for _ in range(readers):
        w = b.const(b.rng.normal(0, 0.3, (16, 8)) / gain[:, None], "w")
        made.append(b.op("Relu", b.op("Add", b.op("MatMul", y, w), b.normal(8))))
    b.done(*made)
    return b


def chain(seed: int = 0) -> Builder:
    """Convolutions and ReLUs whose channels reach unequally far."""
    b = Builder((1, 3, 10, 10), seed=seed, dtype="float64")
    x = b.x
    for _ in range(3):
        spread = np.exp(b.rng.normal(0, 1.5, 8))
        w = b.const(b.rng.normal(0, 0.3, (8, x.shape[1], 3, 3)) * spread[:, None, None, None], "w")
        bias = b.const(b.rng.normal(0, 0.3, 8) * spread, "b")
        x = b.op("Relu", b.op("Conv", x, w, bias, pads=(1, 1, 1, 1)))
    b.done(b.conv(x, 4))
    return b


def feeds_of(b: Builder, count: int) -> list[dict[str, np.ndarray]]:
    """Samples in the graph's own precision."""
    return [{"x": feed["x"].astype(b.dtype)} for feed in b.feeds(count)]


def network(graph: Graph, feeds: list[dict[str, np.ndarray]] | None, bits: int = 8) -> Network:
    """The sites of a graph, with what ``feeds`` show."""
    found = Network.of(LayerScales(graph), Precision(bits, bits))
    if feeds is not None:
        found.observe(graph, Context(calibration=feeds))
    return found
