"""What regions of a network take on the target, in integers and in float.

A region are nodes that are integer together, or with ranges taken at run time the layers that share
an input with their clamps.  ::

    integer region: seconds of its nodes, and of quantizing its inputs and dequantizing its outputs
    float region:   seconds of the same nodes in the float network

The integer network is a draft: numbers do not matter here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..ir.graph import Graph, Node
from .base import Pass
from .context import Context, Cost, Kept
from .fold_dynamic import FoldDynamic
from .fold_integers import FoldIntegers
from .plan import fusable_clamp, plan, role
from .quantize import QuantizeStatic
from .quantize_dynamic import QuantizeDynamic

Regions = dict[str, int]
"""The number of the region of every node in one, by name."""


@dataclass(frozen=True)
class RegionTimes:
    """Seconds of regions in float and in integers; ``rest``: of the nodes that are in none."""

    regions: Regions
    real: Mapping[int, float]
    integer: Mapping[int, float]
    rest: float


def time_regions(graph: Graph, context: Context, cost: Cost) -> RegionTimes | None:
    """The times of a float network's regions; None where there are none, or they are not known."""
    regions = (regions_of if is_static(graph) else _layers)(graph, context.kept)
    if not regions:
        return None
    trial = draft(graph, context)
    real, integer = cost.seconds(graph), cost.seconds(trial)
    if real is None or integer is None:
        return None
    before, after = _sums(real, regions), _sums(integer, _spread(trial, regions))
    return RegionTimes(regions, before, after, sum(integer.values()) - sum(after.values()))


def is_static(graph: Graph) -> bool:
    """Whether ranges of activations are known."""
    return "calibrated" in graph.properties


def regions_of(graph: Graph, kept: Kept) -> Regions:
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


def draft(graph: Graph, context: Context) -> Graph:
    """The integer network, with the weights rounded in the cheapest way."""
    quiet = replace(context, calibration=None, cost=None, moments={}, why_float={})
    passes: tuple[Pass, Pass] = (QuantizeDynamic(), FoldDynamic())
    if is_static(graph):
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
