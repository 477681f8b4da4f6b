"""A graph whose packed constants are decoded once and for all."""

from __future__ import annotations

from collections.abc import Callable

from .graph import Graph, Node
from .ops.encoding import Decode


def unpacked(graph: Graph, keep: Callable[[Node], bool] = lambda node: False) -> Graph:
    """A copy with constants of numbers instead of packed ones under the names of what they give.

    The same numbers: what an artifact does when it is loaded.  Nodes to ``keep`` stay.
    """
    out = graph.copy()
    for node in list(out.nodes):
        if isinstance(node.op, Decode) and (data := node.operands[0].data) is not None:
            if keep(node):
                continue
            name = node.output.name
            value = out.constant(node.op.eval([data])[0], f"{name}.unpacked")
            out.replace(node.output, value)
            out.remove(node)
            if value.name != name:
                out.rename(value, name)
    return out
