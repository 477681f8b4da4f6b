"""How far a changed network's outputs are from the float network's, on a few samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.graph import Graph, Value
from ...ir.types import Array
from ..context import Context, Feed
from ..fitting.cursor import Cursor

_SATURATING = ("Softmax", "LogSoftmax", "Sigmoid")


class Distortion:
    """Compares with the outputs of ``real``; what saturates is judged by what goes into it."""

    def __init__(self, real: Graph, context: Context, feeds: Sequence[Feed]) -> None:
        self.context, self.feeds = context, feeds
        self.names = judged(real)
        self._reference = self._run(real, Cursor(real, context, feeds))
        self._power = [max(float(np.square(a).mean()), 1e-30) for a in self._reference]

    def of(self, graph: Graph, walk: Cursor | None = None) -> float:
        """Mean square error over mean square, the mean of all outputs.

        ``walk``: through the same samples, to a place up to which ``graph`` is the real one.
        """
        found = self._run(graph, walk or Cursor(graph, self.context, self.feeds))
        pairs = zip(self._reference, found, strict=True)
        errors = [float(np.square(a - b).mean()) for a, b in pairs]
        return float(np.mean([e / p for e, p in zip(errors, self._power, strict=True)]))

    def _run(self, graph: Graph, walk: Cursor) -> list[Array]:
        found = list(walk.values(self.names, graph))
        return [np.stack([f[name] for f in found]).astype(np.float64) for name in self.names]


def judged(graph: Graph) -> list[str]:
    """Names of the real outputs, or of what goes into one that saturates."""
    return list(dict.fromkeys(_unsaturated(v).name for v in graph.outputs if v.type.is_float))


def _unsaturated(value: Value) -> Value:
    maker = value.producer
    if maker is not None and maker.op.name in _SATURATING:
        return maker.operands[0]
    return value
