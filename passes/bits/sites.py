"""What can have a number of bits of its own: a layer's weights, activations that share a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.graph import Graph
from ..context import Kept, Widths
from ..linear import Linear
from ..plan import Plan, role

WEIGHTS, ACTIVATIONS = "weights", "activations"


@dataclass(frozen=True)
class Site:
    """``size`` numbers with codes of one width.

    ``kind``: the weights of the layer ``members[0]``, or the activations ``members``; ``index``:
    of the first node that they touch.
    """

    kind: str
    members: tuple[str, ...]
    size: int
    index: int


def sites_of(graph: Graph, decided: Plan, kept: Kept) -> list[Site]:
    """All sites in the order of the graph, but for activations whose width is fixed.

    Those are the network's inputs (8 bits) and endings (16).
    """
    found = []
    for i, node in enumerate(graph.nodes):
        layer = Linear.of(node)
        if layer is not None and role(node, kept) == "anchor":
            found.append(Site(WEIGHTS, (node.name,), layer.weights().size, i))
    inputs = {decided.find(v.name) for v in graph.inputs}
    for root, members in decided.members().items():
        if root in inputs or decided.bits[members[0]] > 8:
            continue
        makers = [p for p in (graph[m].producer for m in members) if p is not None]
        if makers:
            size = sum(graph[m].type.size for m in members)
            first = min(map(graph.index, makers))
            found.append(Site(ACTIVATIONS, tuple(members), size, first))
    return sorted(found, key=lambda s: (s.index, s.kind))


def widths_of(sites: Sequence[Site], bits: Sequence[int]) -> Widths:
    """Each site's bits, by the names of layers and of activations."""
    both: dict[str, dict[str, int]] = {WEIGHTS: {}, ACTIVATIONS: {}}
    for site, n in zip(sites, bits, strict=True):
        both[site.kind].update(dict.fromkeys(site.members, n))
    return Widths(both[WEIGHTS], both[ACTIVATIONS])
