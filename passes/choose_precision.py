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
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ..ir.errors import PreconditionError
from ..ir.graph import Graph, Node
from .base import Kind, Pass, Statistics
from .context import Context, Cost, Kept
from .fold_dynamic import FoldDynamic
from .fold_integers import FoldIntegers
from .plan import fusable_clamp, plan, role
from .quantize import QuantizeStatic
from .quantize_dynamic import QuantizeDynamic
from .sensitivity import loud_products

Regions = dict[str, int]
"""The number of the region of every node in one, by name."""


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
        static = "calibrated" in graph.properties
        regions = _regions(graph, context.kept) if static else _layers(graph, context.kept)
        if not regions:
            return {}
        trial = _folded(graph, context, static)
        real, integer = cost.seconds(graph), cost.seconds(trial)
        if real is None or integer is None:
            return {}
        before = _sums(real, regions)
        after = _sums(integer, _spread(trial, regions))
        how = "measured" if cost.measured else "estimated"
        margin = self.measured if cost.measured else self.estimated
        chosen = {}
        for name, region in regions.items():
            slow, fast = after.get(region, 0.0), before.get(region, 0.0)
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


def _regions(graph: Graph, kept: Kept) -> Regions:
    """Nodes that are integer and connected, under one number."""
    decided = plan(graph, kept)
    regions: Regions = {}
    alias: dict[int, int] = {}

    def find(r: int) -> int:
        while r in alias:
            r = alias[r]
        return r

    for i, node in enumerate(graph.nodes):
        if node.name in decided.why_float or not any(v.type.is_float for v in node.outputs):
            continue
        producers = (v.producer for v in node.operands)
        near = {find(regions[p.name]) for p in producers if p is not None and p.name in regions}
        own = min(near, default=i)
        alias.update({other: own for other in near if other != own})
        regions[node.name] = own
    return {name: find(r) for name, r in regions.items()}


def _layers(graph: Graph, kept: Kept) -> Regions:
    """Products with constant weights, by their input, each with the clamp that alone reads it."""
    regions: Regions = {}
    shared: dict[int, int] = {}
    for i, node in enumerate(graph.nodes):
        if role(node, kept) != "anchor" or not node.operands[1].is_constant:
            continue
        regions[node.name] = shared.setdefault(id(node.operands[0]), i)
        if (clamp := fusable_clamp(graph, node.output)) is not None:
            regions[clamp.name] = regions[node.name]
    return regions


def _folded(graph: Graph, context: Context, static: bool) -> Graph:
    """The integer network, with the weights rounded in the cheapest way."""
    quiet = replace(context, calibration=None, cost=None, moments={}, why_float={})
    passes: tuple[Pass, Pass] = (QuantizeDynamic(), FoldDynamic())
    if static:
        passes = (QuantizeStatic().draft(), FoldIntegers())
    trial = graph.copy()
    for one in passes:
        one.apply(trial, quiet)
        trial.properties |= one.establishes
    return trial


def _spread(trial: Graph, regions: Regions) -> Regions:
    """Regions of the nodes that quantization added: of who reads them, else of who made them."""
    found = {n.name: regions[n.name] for n in trial.nodes if n.name in regions}

    def adopt(node: Node, names: list[str]) -> None:
        if node.name not in found and (near := [found[n] for n in names if n in found]):
            found[node.name] = near[0]

    for node in reversed(trial.nodes):
        if "Quantize" in node.op.name:
            adopt(node, [user.name for v in node.outputs for user in v.uses])
    for node in trial.nodes:
        if "Dequantize" in node.op.name:
            adopt(node, [v.producer.name for v in node.operands if v.producer is not None])
    return found


def _sums(seconds: Mapping[str, float], regions: Regions) -> dict[int, float]:
    total: dict[int, float] = {}
    for name, time in seconds.items():
        if name in regions:
            total[regions[name]] = total.get(regions[name], 0.0) + time
    return total
