"""RNN, GRU and LSTM of few steps as products, sums and activations, which have kernels.  ::

    %y, %h = GRU(%x, %w, %r, %b, _, %h0)
    ->
    %g = Sigmoid(Add(MatMul(%x.0, %w'), MatMul(%h0, %r')))   ...   %y = Concat(Unsqueeze(%h.0), ...)

Does not handle: more than ``STEPS`` steps (``loop``), sequences of unequal length,
weights that are not constant, clipped activations, the batch in front, and activations that
networks seldom use.
"""

from functools import partial

from ...ir.graph import Graph, Node, Value
from ...ir.ops.recurrent import Recurrent
from .cell import Cell, has_cell

STEPS = 16
"""Layers of more steps become loops: unrolled they would be long programs."""


def unroll_recurrent(graph: Graph) -> int:
    """Unroll every layer that can be; how many."""
    layers = [n for n in graph.nodes if isinstance(n.op, Recurrent) and _can_unroll(n, n.op)]
    for node in layers:
        assert isinstance(node.op, Recurrent)
        cell = Cell(graph, node, node.op, node)
        for old, new in zip(node.outputs, _results(cell), strict=True):
            graph.replace(old, new)
        graph.remove(node)
    return len(layers)


def _can_unroll(node: Node, op: Recurrent) -> bool:
    return has_cell(node, op) and node.operands[0].shape[0] <= STEPS


def _results(cell: Cell) -> list[Value]:
    """What takes the place of the layer's results."""
    ways = [_way(cell, w) for w in range(cell.op.ways)]
    steps = [cell.join([h[t] for h, _ in ways], 0) for t in range(len(ways[0][0]))]
    every = cell.join(steps, 0)
    last = [cell.join([s[i] for _, s in ways], 0) for i in range(cell.op.states)]
    return [every, *last]


def _way(cell: Cell, way: int) -> tuple[list[Value], list[Value]]:
    """The hidden state after each step, in the order of the sequence, and the last states."""
    x = cell.operand(0)
    assert x is not None
    inputs = cell.pieces(x, 0, x.shape[0])
    states = [cell.start(way, i) for i in range(cell.op.states)]
    hidden: list[Value] = []
    for piece in reversed(inputs) if cell.backwards(way) else inputs:
        states = cell.step(way, partial(cell.product, piece, 1, way), states)
        hidden.append(states[0])
    return (hidden[::-1] if cell.backwards(way) else hidden), states
