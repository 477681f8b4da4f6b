"""``calibrate``: stream the calibration data and learn the range of every value that gets codes."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ..ir.errors import PreconditionError, nearest
from ..ir.graph import Graph
from .base import Kind, Pass, Statistics
from .context import Context
from .linear import Linear
from .plan import plan, role
from .statistics.histogram import Histogram
from .statistics.moments import Moments
from .statistics.ranges import METHODS, Range
from .statistics.streaming import stream


@dataclass(frozen=True)
class Calibrate(Pass):
    """Ranges of activations by one streaming pass over the data.

    Memory holds one histogram per value, whatever the number of samples.  ``method`` is
    ``min-max``, ``percentile`` (``share`` of the values stay inside), ``mse``, ``l3`` (least mean
    cubed error) or ``entropy``; the range of a value is known for codes of any number of bits.
    ``moments``: learn the covariance of every layer's inputs too, for rounding of weights.

    Establishes ``calibrated``.  Raises ``DataError`` without data or where a value is not finite.
    """

    name: ClassVar[str] = "calibrate"
    kind: ClassVar[Kind] = Kind.ANALYSIS
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    establishes: ClassVar[frozenset[str]] = frozenset({"calibrated"})

    method: str = "l3"
    share: float = 0.9999
    moments: bool = True

    def draft(self) -> Pass:
        """Ranges alone."""
        return replace(self, moments=False)

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Fill ``context.ranges``."""
        if self.method not in METHODS:
            raise PreconditionError(
                f"calibrate has no method {self.method!r}; {nearest(self.method, METHODS)}"
            )
        decided = plan(graph, context.kept)
        names = [v.name for v in graph.values if v.name in decided.bits and not v.is_constant]
        seen = {name: Histogram() for name in names}
        context.moments = {
            layer.node.output.name: Moments(layer)
            for layer in map(Linear.of, graph.nodes)
            if layer is not None
            and self.moments
            and role(layer.node, context.kept) == "anchor"
            and Moments.wanted(layer)
        }
        inputs = [(m.layer.node.operands[0].name, m) for m in context.moments.values()]
        samples = stream(graph, context, [*seen.items(), *inputs], "calibrate")
        for name, histogram in seen.items():
            context.ranges[name] = Range(histogram, self.method, self.share)
        return {"rewrites": 0, "values": len(names), "samples": samples}
