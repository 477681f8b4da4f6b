"""Fix symbolic dimensions: the same graph for concrete shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .builder import Builder
from .errors import FrontendError, nearest
from .graph import Graph, Node, Value
from .ops.base import Op
from .ops.control import Control
from .ops.shape import ConstantOfShape, Expand, Reshape
from .types import Dim, TensorType


def bind(graph: Graph, shapes: Mapping[str, int | Sequence[int]]) -> Graph:
    """A copy of ``graph`` with dimensions fixed, types inferred anew and shape arithmetic folded.

    ``shapes`` maps a symbol to a number, or an input's name to its shape (its symbols are then
    fixed everywhere).  Values and nodes keep their names.  Raises ``FrontendError`` for an unknown
    name or a shape that contradicts the graph.
    """
    symbols = _symbols(graph, shapes)
    return _rebuilt(graph, [_bound(v.type, symbols) for v in graph.inputs])


def _rebuilt(graph: Graph, types: Sequence[TensorType]) -> Graph:
    """A copy of ``graph`` for inputs of ``types``."""
    out = Graph(graph.name, states=list(graph.states), properties=set(graph.properties))
    builder = Builder(out)
    twin: dict[int, Value] = {}
    for value, t in zip(graph.inputs, types, strict=True):
        twin[id(value)] = out.input(value.name, t)
    for value in graph.constants:
        if value.data is not None:
            twin[id(value)] = out.constant(value.data, value.name, value.type)
    for node in graph.nodes:
        ins = [None if v is None else twin[id(v)] for v in node.inputs]
        op = _entered(node, ins) if isinstance(node.op, Control) else _unresolved(node)
        results = builder.emit(op, ins, [v.name for v in node.outputs], node.origin)
        twin.update(zip(map(id, node.outputs), results, strict=True))
    out.outputs = [twin[id(v)] for v in graph.outputs]
    out.prune()
    return out


def free_symbols(graph: Graph) -> list[str]:
    """The symbols in the shapes of the inputs, in order."""
    return list(dict.fromkeys(d for v in graph.inputs for d in v.type.shape if isinstance(d, str)))


def _symbols(graph: Graph, shapes: Mapping[str, int | Sequence[int]]) -> dict[str, int]:
    """The number of each symbol that ``shapes`` fixes."""
    inputs = {v.name: v.type for v in graph.inputs}
    known = free_symbols(graph)
    symbols: dict[str, int] = {}
    for name, wanted in shapes.items():
        pairs: list[tuple[Dim, int]]
        if isinstance(wanted, int):
            if name not in known:
                raise FrontendError(f"no symbolic dimension {name!r}; {nearest(name, known)}")
            pairs = [(name, wanted)]
        elif name not in inputs:
            raise FrontendError(f"no input {name!r}; {nearest(name, inputs)}")
        else:
            dims = inputs[name].shape
            if len(dims) != len(wanted):
                raise FrontendError(
                    f"input {name!r} is {inputs[name]}, not of shape {list(wanted)}"
                )
            pairs = list(zip(dims, wanted, strict=True))
        for declared, d in pairs:
            bound = symbols.setdefault(declared, d) if isinstance(declared, str) else declared
            if bound != d or d < 1:
                raise FrontendError(f"{name!r}: dimension {declared!r} is {bound}, not {d}")
    return symbols


def _bound(t: TensorType, symbols: Mapping[str, int]) -> TensorType:
    return t.with_shape([symbols.get(d, d) if isinstance(d, str) else d for d in t.shape])


def _entered(node: Node, ins: Sequence[Value | None]) -> Op:
    """The op with inner graphs for its new operands; what only its body decides stays a symbol."""
    op = node.op
    assert isinstance(op, Control)
    before, after = op.enter(node.inputs), op.enter(ins)
    graphs = {
        name: _rebuilt(g, list(map(_followed, (v.type for v in g.inputs), before, after)))
        for name, g in op.graphs.items()
    }
    return replace(op, **graphs)


def _followed(formal: TensorType, before: TensorType, after: TensorType) -> TensorType:
    """``formal`` with the dimensions of ``after`` where it had those of ``before``."""
    dims = zip(formal.shape, before.shape, after.shape, strict=True)
    return formal.with_shape([new if d == old else d for d, old, new in dims])


def _unresolved(node: Node) -> Op:
    """The op without a shape that names symbols; its operand says the shape again."""
    op = node.op
    if not isinstance(op, Reshape | Expand | ConstantOfShape):
        return op
    return replace(op, shape=None) if any(isinstance(d, str) for d in op.shape or ()) else op
