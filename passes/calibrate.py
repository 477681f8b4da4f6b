"""``calibrate``: stream the calibration data and learn the range of every value that gets codes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.errors import DataError, PreconditionError, nearest
from ..ir.graph import Graph
from ..ir.types import Array
from .base import Kind, Pass, Statistics
from .context import Context, Range
from .histogram import Histogram
from .plan import plan
from .ranges import METHODS


@dataclass(frozen=True)
class Calibrate(Pass):
    """Ranges of activations by one streaming pass over the data.

    Memory holds one histogram per value, whatever the number of samples.  ``method`` is
    ``min-max``, ``percentile`` (``share`` of the values stay inside), ``mse`` or ``entropy``.

    Establishes ``calibrated``.  Raises ``DataError`` without data or where a value is not finite.
    """

    name: ClassVar[str] = "calibrate"
    kind: ClassVar[Kind] = Kind.ANALYSIS
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    establishes: ClassVar[frozenset[str]] = frozenset({"calibrated"})

    method: str = "mse"
    share: float = 0.9999

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Fill ``context.ranges``."""
        if self.method not in METHODS:
            raise PreconditionError(
                f"calibrate has no method {self.method!r}; {nearest(self.method, METHODS)}"
            )
        decided = plan(graph, context.keep_float)
        names = [v.name for v in graph.values if v.name in decided.bits and not v.is_constant]
        seen = {name: Histogram() for name in names}
        samples = self._observe(graph, context, seen)
        for name, histogram in seen.items():
            levels = 2 ** decided.bits[name]
            method = METHODS[self.method if levels == 256 else "min-max"]
            low, high = method(histogram, levels, self.share)
            context.ranges[name] = Range(histogram.least, histogram.greatest, low, high)
        return {"rewrites": 0, "values": len(names), "samples": samples}

    def _observe(self, graph: Graph, context: Context, seen: dict[str, Histogram]) -> int:
        inputs = {v.name for v in graph.inputs}
        run = context.open(graph, [n for n in seen if n not in inputs])
        if context.progress is not None:
            total = len(context.calibration) if hasattr(context.calibration, "__len__") else None  # type: ignore[arg-type]
            context.progress.start("calibrate", total)
        count = 0
        for count, feed in enumerate(context.feeds("calibration"), 1):
            found = run(feed)
            for name, histogram in seen.items():
                self._add(
                    histogram,
                    np.asarray(feed[name] if name in inputs else found[name]),
                    name,
                    count,
                )
            if context.progress is not None:
                context.progress.advance()
        if context.progress is not None:
            context.progress.done()
        return count

    @staticmethod
    def _add(histogram: Histogram, array: Array, name: str, count: int) -> None:
        try:
            histogram.add(np.asarray(array, np.float32))
        except ValueError as error:
            raise DataError(f"calibration sample {count - 1} makes %{name} hold {error}") from error
