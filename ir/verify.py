"""The verifier: what every graph must satisfy between passes."""

from .errors import VerifyError
from .graph import Graph, Node, Value
from .mapped import release
from .ops import OPS
from .ops.control import Control
from .text import format_node
from .types import dtype_of


def verify(graph: Graph) -> None:
    """Raise ``VerifyError`` with the offending line of IR text unless all invariants hold.

    1. Every value has one definition: an input, a constant or one result of one node.
    2. Names are unique and the graph knows each value under its own name.
    3. A node reads only values that are defined before it (no cycles, topological order).
    4. Uses are the exact inverse of operands, counted with multiplicity.
    5. Every op is one of the known ops, and its results have the types that it infers.
    6. Constants have the element type and shape of their data; constant floats are not NaN.
    7. Outputs exist; states pair an input with an output of the same type.
    8. A dynamic quantization names values of the graph.
    9. All of this holds for the graphs inside ops.
    """
    defined = {id(v) for v in graph.inputs} | {id(v) for v in graph.constants}
    uses: dict[int, int] = {}
    for node in graph.nodes:
        _check_operands(graph, node, defined)
        _check_results(graph, node)
        if isinstance(node.op, Control):
            for inner in node.op.graphs.values():
                verify(inner)
        defined.update(id(v) for v in node.outputs)
        for value in node.operands:
            uses[id(value)] = uses.get(id(value), 0) + 1
    for value in graph.values:
        _check_value(graph, value, uses.get(id(value), 0))
    for value in graph.outputs:
        if id(value) not in defined:
            raise VerifyError(f"output %{value.name} of graph {graph.name!r} is not defined")
    _check_states(graph)


def _check_operands(graph: Graph, node: Node, defined: set[int]) -> None:
    if OPS.get(node.op.name) is not type(node.op):
        raise VerifyError(f"{node.op.name} is not a known op: {format_node(node)}")
    for value in node.operands:
        if value.name not in graph or graph[value.name] is not value:
            raise VerifyError(f"%{value.name} is not of this graph: {format_node(node)}")
        if id(value) not in defined:
            raise VerifyError(f"%{value.name} is read before it is defined: {format_node(node)}")


def _check_results(graph: Graph, node: Node) -> None:
    try:
        types = node.op.infer(list(node.inputs))
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise VerifyError(f"{format_node(node)}: {error}") from error
    if [v.type for v in node.outputs] != types:
        raise VerifyError(f"{format_node(node)}: infers {', '.join(map(str, types))}")
    for value in node.outputs:
        if value.producer is not node or graph[value.name] is not value:
            raise VerifyError(f"%{value.name} does not know its producer: {format_node(node)}")


def _check_value(graph: Graph, value: Value, uses: int) -> None:
    if graph[value.name] is not value:
        raise VerifyError(f"graph {graph.name!r} knows another value as %{value.name}")
    if len(value.uses) != uses:
        raise VerifyError(f"{value!r} is read {uses} times but lists {len(value.uses)} uses")
    if value.data is not None:
        same = dtype_of(value.data) == value.type.dtype and value.data.shape == value.type.shape
        if not same or value.producer is not None:
            raise VerifyError(f"constant {value!r} has data {value.data.dtype}{value.data.shape}")
        if value.data.dtype.kind == "f" and bool((value.data != value.data).any()):
            raise VerifyError(f"constant {value!r} holds NaN")
        release(value.data)
    quant = value.type.quant
    for name in () if quant is None else (quant.scale, quant.zero_point):
        if isinstance(name, str) and name not in graph:
            raise VerifyError(f"{value!r} is quantized by %{name}, which is not in the graph")


def _check_states(graph: Graph) -> None:
    ins = {v.name: v for v in graph.inputs}
    outs = {v.name: v for v in graph.outputs}
    for before, after in graph.states:
        if before not in ins or after not in outs:
            raise VerifyError(f"state {before!r} -> {after!r} is not an input and an output")
        old, new = ins[before].type, outs[after].type
        if old != new:
            raise VerifyError(
                f"state {before!r} -> {after!r} changes its type: {old} before a step, {new} after "
                "it; a state has room for all steps from the beginning"
            )
