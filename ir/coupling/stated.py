"""What all nodes of a graph state."""

from __future__ import annotations

from ..graph import Graph
from .action import Action
from .relations import FLAT, Relations
from .shuffles import shuffles


def stated(graph: Graph) -> Relations:
    """What all nodes of a graph, its inputs and its outputs state; shuffles speak as one."""
    relations = Relations()
    found = list(shuffles(graph))
    within = {id(node) for shuffle in found for node in shuffle.nodes}
    for node in graph.nodes:
        relations.state(node, Action.ALL & ~Action.SCALE if id(node) in within else Action.ALL)
    for shuffle in found:
        before = relations.axes(shuffle.before)
        for moved in shuffle.results:
            for k, (a, b) in enumerate(zip(before, relations.axes(moved.value), strict=True)):
                if k == moved.axis:
                    relations.index(a, moved.indices, b, Action.SCALE)
                else:
                    relations.same(a, b, Action.SCALE)
        for axis in (a for v in shuffle.inner for a in relations.axes(v)):
            relations.pin(axis, "inside a shuffle", Action.SCALE)
    for kind, values in (("graph input", graph.inputs), ("graph output", graph.outputs)):
        for value in values:
            for axis in (*relations.axes(value), (value, FLAT)):
                if axis in relations.sizes:
                    relations.pin(axis, kind)
    return relations
