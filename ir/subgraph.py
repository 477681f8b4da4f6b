"""A part of a graph as a graph of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .graph import Graph, Value


def subgraph(graph: Graph, outputs: Sequence[str], known: Collection[str]) -> Graph:
    """What computes the values ``outputs``; of the values ``known`` those it reads are its inputs.

    Values keep their names; constants are shared.
    """
    stop = {*known, *(v.name for v in graph.inputs)}
    needed, nodes = set(outputs) - stop, []
    for node in reversed(graph.nodes):
        if any(v.name in needed for v in node.outputs):
            nodes.append(node)
            needed.update(v.name for v in node.operands if v.name not in stop)
    out = Graph(graph.name)
    twin: dict[int, Value] = {}

    def have(value: Value) -> Value:
        if id(value) not in twin:
            twin[id(value)] = (
                out.input(value.name, value.type)
                if value.data is None
                else out.constant(value.data, value.name, value.type)
            )
        return twin[id(value)]

    for node in reversed(nodes):
        ins = [None if v is None else have(v) for v in node.inputs]
        names = [v.name for v in node.outputs]
        made = out.add(node.op, ins, names=names, origin=node.origin)
        twin.update(zip(map(id, node.outputs), made.outputs, strict=True))
    out.outputs = [have(graph[name]) for name in outputs]
    return out


def live(graph: Graph, index: int) -> list[Value]:
    """The values made (or fed) before node ``index`` that it or a later node or an output reads."""
    later = {id(v) for node in graph.nodes[index:] for v in node.operands}
    later |= {id(v) for v in graph.outputs}
    before = [*graph.inputs, *(v for node in graph.nodes[:index] for v in node.outputs)]
    return [v for v in before if id(v) in later]
