"""Zeros instead of deletion: the uncut graph that a graph with deleted channels must equal."""

from __future__ import annotations

from ..coupling import Coupling
from ..graph import Graph
from ..ops.elementwise import Mul
from ..types import Array


def mask(coupling: Coupling, gone: Array) -> Graph:
    """A copy of the analysed graph with zeros wherever a node sums over a deleted channel.

    Zeroing what makes a channel would not do: a bias, a sigmoid or a norm behind it makes
    something of the zero.
    """
    graph = coupling.graph.copy()
    nodes = dict(zip(map(id, coupling.graph.nodes), list(graph.nodes), strict=True))
    for found in coupling.relations.contractions:
        value, axis = found.axis
        kept = coupling.keep(value, axis, gone)
        if kept.all():
            continue
        node = nodes[id(found.node)]
        shape = [-1 if k == axis else 1 for k in range(value.type.rank)]
        zeros = graph.constant(kept.astype(value.type.dtype).reshape(shape), "mask")
        own = [v for v, i in zip(node.inputs, found.node.inputs, strict=True) if i is not None]
        masked = graph.add(Mul(), [own[found.operand], zeros], before=node).output
        own[found.operand] = masked
        rest = iter(own)
        graph.set_inputs(node, [None if v is None else next(rest) for v in node.inputs])
    return graph
