"""RNN, GRU and LSTM of many steps as a Scan of one step, whose ops have kernels.  ::

    %y, %h = GRU(%x, %w, %r, %b, _, %h0)
    ->
    %p = MatMul(%x, %w')     %h, %every = Scan(%h0, %p) {body: products with %r, activations}

The products with the input need no state and are one for all steps.  Does not handle what
``unroll`` does not, but for the number of steps.
"""

from ...ir.graph import Graph, Value
from ...ir.ops.control import Scan
from ...ir.ops.elementwise import Identity
from ...ir.ops.index import Slice
from ...ir.ops.recurrent import Recurrent
from ...ir.ops.shape import Unsqueeze
from ...ir.types import TensorType
from .cell import WHOLE, Cell, has_cell

_BACK = Slice((-1,), (-(2**63),), (0,), (-1,))


def loop_recurrent(graph: Graph) -> int:
    """Write every layer that can be as a loop; how many.  Short ones are unrolled before."""
    layers = [n for n in graph.nodes if isinstance(n.op, Recurrent) and has_cell(n, n.op)]
    for node in layers:
        assert isinstance(node.op, Recurrent)
        for old, new in zip(node.outputs, _results(Cell(graph, node, node.op, node)), strict=True):
            graph.replace(old, new)
        graph.remove(node)
    return len(layers)


def _results(cell: Cell) -> list[Value]:
    """What takes the place of the layer's results."""
    ways = [_way(cell, way) for way in range(cell.op.ways)]
    wide = [[cell.emit(Unsqueeze((1,)), every) for *_, every in ways]]
    wide += [[cell.emit(Unsqueeze((0,)), w[i]) for w in ways] for i in range(cell.op.states)]
    return [cell.concat(values, 1 if i == 0 else 0) for i, values in enumerate(wide)]


def _way(cell: Cell, way: int) -> list[Value]:
    """The last states of one direction, then all hidden ones in the order of the sequence."""
    x = cell.operand(0)
    assert x is not None
    projected = cell.product(x, 1, way)
    if cell.backwards(way):
        projected = cell.emit(_BACK, projected)
    states = [cell.start(way, i) for i in range(cell.op.states)]
    scan = Scan(_body(cell, way, projected.type, states), len(states), 1)
    *last, every = cell.add(scan, *states, projected)
    return [*last, cell.emit(_BACK, every) if cell.backwards(way) else every]


def _body(cell: Cell, way: int, projected: TensorType, states: list[Value]) -> Graph:
    """One step: states and a row of what the input gives, to states and the hidden one again."""
    body = Graph(f"{cell.node.name}.step")
    held = [body.input(f"state{i}", v.type) for i, v in enumerate(states)]
    row = body.input("row", projected.with_shape(projected.shape[1:]))
    inside = Cell(body, cell.node, cell.op, None)

    def rows(part: slice) -> Value:
        if part == WHOLE:
            return row
        return inside.emit(Slice((part.start,), (part.stop,), (1,)), row)

    new = inside.step(way, rows, held)
    body.outputs = [*new, inside.emit(Identity(), new[0])]
    return body
