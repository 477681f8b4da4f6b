"""The outputs of an imported graph: every one a value of its own, under the name that it had."""

from collections.abc import Sequence

from ..ir.builder import Builder
from ..ir.errors import FrontendError
from ..ir.graph import Graph, Origin, Value
from ..ir.ops import Cast, Identity

HALF = ("float16", "bfloat16")
"""Element types that are computed in float32 and restored at the boundary."""


def output(
    builder: Builder, value: Value, name: str, dtype: str | None, before: Sequence[Value]
) -> Value:
    """``value`` as the output ``name`` of element type ``dtype`` (None: its own).

    ``before`` are the outputs declared already.  Raises ``FrontendError`` where an input has the
    name.
    """
    graph = builder.graph
    if dtype in HALF and value.type.dtype == "float32":
        _vacate(graph, name)
        return builder.emit(Cast(str(dtype)), [value], [name], Origin(name))[0]
    if value.producer is None or any(v is value for v in before):
        if value.name == name and value.is_constant:
            return value
        _vacate(graph, name)
        return graph.add(Identity(), [value], names=[name], origin=Origin(name)).output
    if value.name != name:
        _vacate(graph, name)
        graph.rename(value, name)
    return value


def _vacate(graph: Graph, name: str) -> None:
    """Take ``name`` from a value inside the graph."""
    if name in graph:
        holder = graph[name]
        if any(holder is v for v in graph.inputs):
            raise FrontendError(f"{name!r} is an input and an output")
        graph.rename(holder, graph.fresh(f"{name}.inner"))
