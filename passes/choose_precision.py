"""``choose-precision``: what is faster in float on the target, or loses too much, stays float.

Comes before quantization, since a layer that stays float needs no codes.  A trial copy is quantized
and folded (with the cheapest rounding: numbers do not matter here), the target says what it and
the float network cost, and both are compared region by region: nodes that are integer together, or
with ranges taken at run time the layers that share an input with their clamps.  ::

    integer region: seconds of its nodes, and of quantizing its inputs and dequantizing its outputs
    float region:   seconds of the same nodes in the float network

Before that, with static ranges, products of two activations are judged by the noise that their
codes make (``sensitivity``).

Decisions that were measured are remembered under a hash of the network, so that a later
compilation takes them without measuring.  Does not cut a region into faster parts.
"""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from ..ir.errors import PreconditionError
from ..ir.graph import Graph
from .base import Kind, Pass, Statistics
from .context import Context, Cost, Kept
from .region_times import time_regions
from .sensitivity import loud_products


@dataclass(frozen=True)
class ChoosePrecision(Pass):
    """Decide which regions stay float; without a cost only products that lose too much do.

    ``measured``, ``estimated``: how many times faster float must be, by how the cost is known.
    ``share``: how many times an equal part of all noise a product of two activations may make.
    """

    name: ClassVar[str] = "choose-precision"
    kind: ClassVar[Kind] = Kind.ANALYSIS
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    measured: float = 1.1
    estimated: float = 1.25
    share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse factors that mean nothing."""
        for key in ("measured", "estimated", "share"):
            value = getattr(self, key)
            if not value > 0:
                raise PreconditionError(f"{self.name}.{key} = {value} must be above zero")

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Put names and reasons into ``context.chosen_float``."""
        loud = {}
        if "calibrated" in graph.properties and context.calibration is not None:
            loud = loud_products(graph, context, self.share)
            context.chosen_float.update(loud)
        cost = context.cost
        if cost is None:
            how = "by nothing: no cost is known"
            return {"rewrites": 0, "float": len(loud), "decided": how}
        key = _key(graph, context.kept, f"{self.measured} {self.estimated}")
        chosen, how = cost.recall(key), "remembered"
        if chosen is None:
            how = "measured" if cost.measured else "estimated"
            chosen = self._choose(graph, context, cost)
            if cost.measured:
                cost.remember(key, chosen)
        context.chosen_float.update(chosen)
        return {"rewrites": 0, "float": len(loud) + len(chosen), "decided": how}

    def _choose(self, graph: Graph, context: Context, cost: Cost) -> dict[str, str]:
        times = time_regions(graph, context, cost)
        if times is None:
            return {}
        how = "measured" if cost.measured else "estimated"
        margin = self.measured if cost.measured else self.estimated
        chosen = {}
        for name, region in times.regions.items():
            slow, fast = times.integer.get(region, 0.0), times.real.get(region, 0.0)
            if slow > margin * fast > 0:
                chosen[name] = (
                    f"float is {slow / fast:.2f} times as fast here ({how}: "
                    f"{fast * 1e6:.1f} us, in integers {slow * 1e6:.1f} us)"
                )
        return chosen


def _key(graph: Graph, kept: Kept, factors: str) -> str:
    mode = "static" if "calibrated" in graph.properties else "dynamic"
    text = "\n".join([mode, factors, *kept.patterns, *sorted(kept.chosen), str(graph)])
    return hashlib.sha256(text.encode()).hexdigest()
