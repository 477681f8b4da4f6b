"""Streaming the calibration data through a graph into accumulators that do not grow with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ...ir.errors import DataError
from ...ir.graph import Graph
from ...ir.types import Array
from ..context import Context


class Accumulator(Protocol):
    """Takes one array per sample.  ``ValueError`` says why an array cannot be counted."""

    def add(self, x: Array) -> None:
        """One sample's value, float32."""


def stream(
    graph: Graph, context: Context, seen: Sequence[tuple[str, Accumulator]], what: str
) -> int:
    """Feed every calibration sample's values, by name, to their accumulators.

    Returns the number of samples.  ``DataError`` without data or where a value is not finite.
    """
    inputs = {v.name for v in graph.inputs}
    run = context.open(graph, list(dict.fromkeys(n for n, _ in seen if n not in inputs)))
    if context.progress is not None:
        data = context.calibration
        context.progress.start(what, len(data) if hasattr(data, "__len__") else None)  # type: ignore[arg-type]
    count = 0
    for count, feed in enumerate(context.feeds("calibration"), 1):
        found = run(feed)
        for name, accumulator in seen:
            array = np.asarray(feed[name] if name in inputs else found[name], np.float32)
            try:
                accumulator.add(array)
            except ValueError as error:
                raise DataError(
                    f"calibration sample {count - 1} makes %{name} hold {error}"
                ) from error
        if context.progress is not None:
            context.progress.advance()
    if context.progress is not None:
        context.progress.done()
    return count


@dataclass
class ChannelStatistics:
    """Extremes, mean and variance per channel (``axis``) of all elements seen."""

    axis: int
    count: int = 0
    low: Array = field(default_factory=lambda: np.zeros(0))
    high: Array = field(default_factory=lambda: np.zeros(0))
    _sum: Array = field(default_factory=lambda: np.zeros(0))
    _squares: Array = field(default_factory=lambda: np.zeros(0))

    def add(self, x: Array) -> None:
        """Count the elements of one sample."""
        rows = np.moveaxis(x, self.axis, 0).reshape(x.shape[self.axis], -1)
        low, high = rows.min(1), rows.max(1)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ValueError("values that are not finite")
        total = rows.sum(1, dtype=np.float64)
        squares = np.einsum("ij,ij->i", rows, rows).astype(np.float64)
        if self.count:
            low, high = np.minimum(low, self.low), np.maximum(high, self.high)
            total, squares = total + self._sum, squares + self._squares
        self.low, self.high, self._sum, self._squares = low, high, total, squares
        self.count += rows.shape[1]

    @property
    def mean(self) -> Array:
        """Per channel, float64."""
        return np.asarray(self._sum / self.count)

    @property
    def square(self) -> Array:
        """Mean square per channel, float64."""
        return np.asarray(self._squares / self.count)

    @property
    def variance(self) -> Array:
        """Per channel, float64."""
        return np.asarray(np.maximum(self.square - np.square(self.mean), 0.0))
