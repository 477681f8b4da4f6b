"""RNN, GRU and LSTM of few steps as products, sums and activations, which have kernels.  ::

    %y, %h = GRU(%x, %w, %r, %b, _, %h0)
    ->
    %g = Sigmoid(Add(MatMul(%x.0, %w'), MatMul(%h0, %r')))   ...   %y = Concat(Unsqueeze(%h.0), ...)

Does not handle: more than ``STEPS`` steps, sequences of unequal length, weights that are not
constant, clipped activations, the batch in front, and activations that networks seldom use.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.graph import Graph, Node, Value
from ..ir.ops.activation import (
    Elu,
    HardSigmoid,
    LeakyRelu,
    Relu,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
)  # fmt: skip
from ..ir.ops.base import Op
from ..ir.ops.elementwise import Add, Mul, Sub
from ..ir.ops.nn import MatMul
from ..ir.ops.recurrent import GRU, LSTM, RNN, Recurrent
from ..ir.ops.shape import Concat, Split, Squeeze, Unsqueeze
from ..ir.types import Array

STEPS = 16
"""Layers of more steps keep their form: unrolled they would be long programs."""

_ACTIVATIONS: dict[str, Callable[[float, float], Op]] = {
    "elu": lambda a, b: Elu(a),
    "hardsigmoid": HardSigmoid,
    "leakyrelu": lambda a, b: LeakyRelu(a),
    "relu": lambda a, b: Relu(),
    "sigmoid": lambda a, b: Sigmoid(),
    "softplus": lambda a, b: Softplus(),
    "softsign": lambda a, b: Softsign(),
    "tanh": lambda a, b: Tanh(),
}


def unroll_recurrent(graph: Graph) -> int:
    """Unroll every layer that can be; how many."""
    layers = [n for n in graph.nodes if isinstance(n.op, Recurrent) and _can_unroll(n, n.op)]
    for node in layers:
        assert isinstance(node.op, Recurrent)
        for old, new in zip(node.outputs, _Unrolled(graph, node, node.op).results(), strict=True):
            graph.replace(old, new)
        graph.remove(node)
    return len(layers)


def _can_unroll(node: Node, op: Recurrent) -> bool:
    x, *weights = [*node.inputs, *[None] * 8][:8]
    constant = all(v is None or _is_known(v) for v in (*weights[:3], weights[6]))
    known = x is not None and isinstance(x.type.shape[0], int) and x.type.shape[0] <= STEPS
    names = op.names(0) + op.names(op.ways - 1)
    usual = op.clip is None and op.layout == 0 and all(n in _ACTIVATIONS for n in names)
    return known and constant and weights[3] is None and usual


def _is_known(value: Value) -> bool:
    """Whether ``value`` depends on constants alone (exporters put gates in ONNX's order)."""
    if value.producer is None:
        return value.is_constant
    return bool(value.producer.operands) and all(map(_is_known, value.producer.operands))


def _known(value: Value) -> Array:
    """The elements of a value that is known."""
    if value.data is not None:
        return value.data
    node = value.producer
    assert node is not None
    results = node.op.eval([None if v is None else _known(v) for v in node.inputs])
    return results[node.outputs.index(value)]


@dataclass
class _Unrolled:
    """The nodes that replace one layer."""

    graph: Graph
    node: Node
    op: Recurrent

    def results(self) -> list[Value]:
        """What takes the place of the layer's results."""
        ways = [self._way(w) for w in range(self.op.ways)]
        steps = [self._join([h[t] for h, _ in ways], 0) for t in range(len(ways[0][0]))]
        every = self._join(steps, 0)
        last = [self._join([s[i] for _, s in ways], 0) for i in range(self.op.states)]
        return [every, *last]

    def _way(self, way: int) -> tuple[list[Value], list[Value]]:
        """The hidden state after each step, in the order of the sequence, and the last states."""
        x = self._operand(0)
        assert x is not None
        inputs = self._pieces(x, 0, x.shape[0])
        start = [self._start(way, i) for i in range(self.op.states)]
        back = self.op.direction == "reverse" or way == 1
        hidden: list[Value] = []
        states = start
        for piece in reversed(inputs) if back else inputs:
            states = self._step(way, piece, states)
            hidden.append(states[0])
        return (hidden[::-1] if back else hidden), states

    def _step(self, way: int, x: Value, states: list[Value]) -> list[Value]:
        op = self.op
        if isinstance(op, LSTM):
            return self._lstm(op, way, x, states)
        if isinstance(op, GRU):
            return self._gru(op, way, x, states[0])
        assert isinstance(op, RNN)
        (wb, rb) = self._biases(way)
        total = self._sum(self._product(x, 1, way), self._product(states[0], 2, way), wb + rb)
        return [self._emit(self._activation(way, 0), total)]

    def _gru(self, op: GRU, way: int, x: Value, h: Value) -> list[Value]:
        n, (wb, rb) = op.hidden_size, self._biases(way)
        z_r, fresh = slice(0, 2 * n), slice(2 * n, 3 * n)
        gates = self._sum(
            self._product(x, 1, way, z_r), self._product(h, 2, way, z_r), (wb + rb)[z_r]
        )
        z, reset = self._split(self._emit(self._activation(way, 0), gates), (n, n))
        if op.linear_before_reset:
            old = self._add_constant(self._product(h, 2, way, fresh), rb[fresh])
            old, rest = self._emit(Mul(), reset, old), wb[fresh]
        else:
            old = self._product(self._emit(Mul(), reset, h), 2, way, fresh)
            rest = (wb + rb)[fresh]
        new = self._emit(
            self._activation(way, 1), self._sum(self._product(x, 1, way, fresh), old, rest)
        )
        moved = self._emit(Mul(), z, self._emit(Sub(), h, new))
        return [self._emit(Add(), new, moved)]

    def _lstm(self, op: LSTM, way: int, x: Value, states: list[Value]) -> list[Value]:
        n, (h, c), (wb, rb) = op.hidden_size, states, self._biases(way)
        gates = self._sum(self._product(x, 1, way), self._product(h, 2, way), wb + rb)
        f, g, out = (self._activation(way, i) for i in range(3))
        peep = self._operand(7)
        if peep is None:
            three, fresh = self._split(gates, (3 * n, n))
            i, o, forget = self._split(self._emit(f, three), (n, n, n))
        else:
            p = np.split(_known(peep)[way], 3)
            i, o_in, f_in, fresh = self._split(gates, (n, n, n, n))
            i = self._emit(f, self._emit(Add(), i, self._scaled(c, p[0])))
            forget = self._emit(f, self._emit(Add(), f_in, self._scaled(c, p[2])))
        if op.input_forget:
            forget = self._emit(Sub(), self._constant(np.ones(1)), i)
        kept = self._emit(Mul(), forget, c)
        cell = self._emit(Add(), kept, self._emit(Mul(), i, self._emit(g, fresh)))
        if peep is not None:
            o = self._emit(f, self._emit(Add(), o_in, self._scaled(cell, p[1])))
        return [self._emit(Mul(), o, self._emit(out, cell)), cell]

    # -- parts -------------------------------------------------------------------------------

    def _operand(self, index: int) -> Value | None:
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def _start(self, way: int, index: int) -> Value:
        """The initial state of one direction, zeros if there is none."""
        whole = self._operand(5 + index)
        if whole is None:
            shape = self.node.outputs[1].type.static[1:]
            return self._constant(np.zeros(shape))
        return self._pieces(whole, 0, self.op.ways)[way]

    def _biases(self, way: int) -> tuple[Array, Array]:
        b = self._operand(3)
        rows = self.op.gates * self.op.hidden_size
        whole = np.zeros(2 * rows) if b is None else _known(b)[way]
        return whole[:rows], whole[rows:]

    def _product(self, x: Value, index: int, way: int, rows: slice = slice(None)) -> Value:
        """``x`` times some rows of W (operand 1) or R (2), transposed."""
        weights = self._operand(index)
        assert weights is not None
        constant = self.graph.constant(_known(weights)[way][rows].T, f"{weights.name}.t")
        return self._emit(MatMul(), x, constant)

    def _activation(self, way: int, index: int) -> Op:
        name = self.op.names(way)[index]
        return _ACTIVATIONS[name](*self.op.constants(way, index))

    def _sum(self, a: Value, b: Value, bias: Array) -> Value:
        return self._add_constant(self._emit(Add(), a, b), bias)

    def _add_constant(self, x: Value, bias: Array) -> Value:
        return self._emit(Add(), x, self._constant(bias)) if bias.any() else x

    def _scaled(self, x: Value, factor: Array) -> Value:
        return self._emit(Mul(), x, self._constant(factor))

    def _constant(self, array: Array) -> Value:
        return self.graph.constant(array.astype(self.node.output.type.dtype), f"{self.node.name}.c")

    def _pieces(self, x: Value, axis: int, count: int) -> list[Value]:
        """The slices of ``x`` along ``axis``, without it."""
        parts = self._split(x, (1,) * count, axis) if count > 1 else [x]
        return [self._emit(Squeeze((axis,)), part) for part in parts]

    def _join(self, values: Sequence[Value], axis: int) -> Value:
        wide = [self._emit(Unsqueeze((axis,)), v) for v in values]
        return self._emit(Concat(axis), *wide) if len(wide) > 1 else wide[0]

    def _split(self, x: Value, sizes: tuple[int, ...], axis: int = 1) -> list[Value]:
        return list(self._add(Split(axis, sizes), x))

    def _emit(self, op: Op, *ins: Value) -> Value:
        return self._add(op, *ins)[0]

    def _add(self, op: Op, *ins: Value) -> tuple[Value, ...]:
        name = f"{self.node.output.name}.{op.name.lower()}"
        made = self.graph.add(op, ins, names=[name], origin=self.node.provenance, before=self.node)
        return made.outputs
