"""A graph whose packed constants are decoded once and for all."""

from __future__ import annotations

from .graph import Graph
from .ops.encoding import Decode


def unpacked(graph: Graph) -> Graph:
    """A copy with constants of numbers instead of packed ones under the names of what they give.

    The same numbers: what an artifact does when it is loaded.
    """
    out = graph.copy()
    for node in list(out.nodes):
        if isinstance(node.op, Decode) and (data := node.operands[0].data) is not None:
            name = node.output.name
            value = out.constant(node.op.eval([data])[0], f"{name}.unpacked")
            out.replace(node.output, value)
            out.remove(node)
            if value.name != name:
                out.rename(value, name)
    return out
