"""One step of RNN, GRU and LSTM as products, sums and activations, which have kernels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.graph import Graph, Node, Value
from ...ir.ops.activation import (
    Elu,
    HardSigmoid,
    LeakyRelu,
    Relu,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
)  # fmt: skip
from ...ir.ops.base import Op
from ...ir.ops.elementwise import Add, Mul, Sub
from ...ir.ops.nn import MatMul
from ...ir.ops.recurrent import GRU, LSTM, RNN, Recurrent
from ...ir.ops.shape import Concat, Split, Squeeze, Unsqueeze
from ...ir.types import Array

Projected = Callable[[slice], Value]
"""Some rows of the step's input times W."""

WHOLE = slice(None)

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


def has_cell(node: Node, op: Recurrent) -> bool:
    """Whether the steps of a layer can be written so."""
    x, *weights = [*node.inputs, *[None] * 8][:8]
    constant = all(v is None or is_known(v) for v in (*weights[:3], weights[6]))
    names = op.names(0) + op.names(op.ways - 1)
    usual = op.clip is None and op.layout == 0 and all(n in _ACTIVATIONS for n in names)
    fixed = x is not None and isinstance(x.type.shape[0], int)
    return fixed and constant and usual and _of_full_length(node)


def _of_full_length(node: Node) -> bool:
    """Whether no sequence of the batch is known, or may turn out, to end before the others."""
    lengths = node.inputs[4] if len(node.inputs) > 4 else None
    if lengths is None or lengths.data is None:
        return lengths is None
    return bool((lengths.data >= node.operands[0].shape[0]).all())


def is_known(value: Value) -> bool:
    """Whether ``value`` depends on constants alone (exporters put gates in ONNX's order)."""
    if value.producer is None:
        return value.is_constant
    return bool(value.producer.operands) and all(map(is_known, value.producer.operands))


def known(value: Value) -> Array:
    """The elements of a value that is known."""
    if value.data is not None:
        return value.data
    node = value.producer
    assert node is not None
    results = node.op.eval([None if v is None else known(v) for v in node.inputs])
    return results[node.outputs.index(value)]


@dataclass
class Cell:
    """Emits the steps of a layer into ``graph``, in front of ``before`` (None: at its end)."""

    graph: Graph
    node: Node
    op: Recurrent
    before: Node | None

    def step(self, way: int, projected: Projected, states: list[Value]) -> list[Value]:
        """The next states, the hidden one first."""
        op = self.op
        if isinstance(op, LSTM):
            return self._lstm(op, way, projected, states)
        if isinstance(op, GRU):
            return self._gru(op, way, projected, states[0])
        assert isinstance(op, RNN)
        (wb, rb) = self._biases(way)
        total = self._sum(projected(WHOLE), self.product(states[0], 2, way), wb + rb)
        return [self.emit(self._activation(way, 0), total)]

    def _gru(self, op: GRU, way: int, projected: Projected, h: Value) -> list[Value]:
        n, (wb, rb) = op.hidden_size, self._biases(way)
        z_r, fresh = slice(0, 2 * n), slice(2 * n, 3 * n)
        gates = self._sum(projected(z_r), self.product(h, 2, way, z_r), (wb + rb)[z_r])
        z, reset = self._split(self.emit(self._activation(way, 0), gates), (n, n))
        if op.linear_before_reset:
            old = self._add_constant(self.product(h, 2, way, fresh), rb[fresh])
            old, rest = self.emit(Mul(), reset, old), wb[fresh]
        else:
            old = self.product(self.emit(Mul(), reset, h), 2, way, fresh)
            rest = (wb + rb)[fresh]
        new = self.emit(self._activation(way, 1), self._sum(projected(fresh), old, rest))
        moved = self.emit(Mul(), z, self.emit(Sub(), h, new))
        return [self.emit(Add(), new, moved)]

    def _lstm(self, op: LSTM, way: int, projected: Projected, states: list[Value]) -> list[Value]:
        n, (h, c), (wb, rb) = op.hidden_size, states, self._biases(way)
        gates = self._sum(projected(WHOLE), self.product(h, 2, way), wb + rb)
        f, g, out = (self._activation(way, i) for i in range(3))
        peep = self.operand(7)
        if peep is None:
            three, fresh = self._split(gates, (3 * n, n))
            i, o, forget = self._split(self.emit(f, three), (n, n, n))
        else:
            p = np.split(known(peep)[way], 3)
            i, o_in, f_in, fresh = self._split(gates, (n, n, n, n))
            i = self.emit(f, self.emit(Add(), i, self._scaled(c, p[0])))
            forget = self.emit(f, self.emit(Add(), f_in, self._scaled(c, p[2])))
        if op.input_forget:
            forget = self.emit(Sub(), self._constant(np.ones(1)), i)
        kept = self.emit(Mul(), forget, c)
        cell = self.emit(Add(), kept, self.emit(Mul(), i, self.emit(g, fresh)))
        if peep is not None:
            o = self.emit(f, self.emit(Add(), o_in, self._scaled(cell, p[1])))
        return [self.emit(Mul(), o, self.emit(out, cell)), cell]

    # -- parts -------------------------------------------------------------------------------

    def operand(self, index: int) -> Value | None:
        """An operand of the layer."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def backwards(self, way: int) -> bool:
        """Whether a direction begins with the last step."""
        return self.op.direction == "reverse" or way == 1

    def start(self, way: int, index: int) -> Value:
        """The initial state of one direction, zeros if there is none."""
        whole = self.operand(5 + index)
        if whole is None:
            shape = self.node.outputs[1].type.static[1:]
            return self._constant(np.zeros(shape))
        return self.pieces(whole, 0, self.op.ways)[way]

    def _biases(self, way: int) -> tuple[Array, Array]:
        b = self.operand(3)
        rows = self.op.gates * self.op.hidden_size
        whole = np.zeros(2 * rows) if b is None else known(b)[way]
        return whole[:rows], whole[rows:]

    def product(self, x: Value, index: int, way: int, rows: slice = slice(None)) -> Value:
        """``x`` times some rows of W (operand 1) or R (2), transposed."""
        weights = self.operand(index)
        assert weights is not None
        constant = self.graph.constant(known(weights)[way][rows].T, f"{weights.name}.t")
        return self.emit(MatMul(), x, constant)

    def _activation(self, way: int, index: int) -> Op:
        name = self.op.names(way)[index]
        return _ACTIVATIONS[name](*self.op.constants(way, index))

    def _sum(self, a: Value, b: Value, bias: Array) -> Value:
        return self._add_constant(self.emit(Add(), a, b), bias)

    def _add_constant(self, x: Value, bias: Array) -> Value:
        return self.emit(Add(), x, self._constant(bias)) if bias.any() else x

    def _scaled(self, x: Value, factor: Array) -> Value:
        return self.emit(Mul(), x, self._constant(factor))

    def _constant(self, array: Array) -> Value:
        return self.graph.constant(array.astype(self.node.output.type.dtype), f"{self.node.name}.c")

    def pieces(self, x: Value, axis: int, count: int) -> list[Value]:
        """The slices of ``x`` along ``axis``, without it."""
        parts = self._split(x, (1,) * count, axis) if count > 1 else [x]
        return [self.emit(Squeeze((axis,)), part) for part in parts]

    def join(self, values: Sequence[Value], axis: int) -> Value:
        """``values`` side by side on a new axis."""
        return self.concat([self.emit(Unsqueeze((axis,)), v) for v in values], axis)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """``values`` one after the other."""
        return self.emit(Concat(axis), *values) if len(values) > 1 else values[0]

    def _split(self, x: Value, sizes: tuple[int, ...], axis: int = 1) -> list[Value]:
        return list(self.add(Split(axis, sizes), x))

    def emit(self, op: Op, *ins: Value) -> Value:
        """The one result of an op."""
        return self.add(op, *ins)[0]

    def add(self, op: Op, *ins: Value) -> tuple[Value, ...]:
        """The results of an op."""
        name = f"{self.node.output.name}.{op.name.lower()}"
        made = self.graph.add(
            op, ins, names=[name], origin=self.node.provenance, before=self.before
        )
        return made.outputs
