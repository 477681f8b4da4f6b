"""Arithmetic, one element at a time; operands broadcast as in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..coupling.action import Action
from ..types import DTYPES, Array, TensorType
from .base import Op, Operands, broadcast, given, operand
from .narrow import convert

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node


class Unary(Op):
    """A function of one operand; the result has the operand's type."""

    function: ClassVar[Any]
    commutes: ClassVar[Action] = Action.COUPLED
    """With which actions on channels: homogeneous functions with scaling, linear ones with more."""

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if x.dtype == "string":
            raise ValueError("strings are not numbers")
        return [TensorType(x.dtype, x.shape)]

    def compute(self, x: Array) -> Array:
        """The function itself; ``eval`` gives the result the dtype of ``x``."""
        return np.asarray(type(self).function(x))

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        with np.errstate(all="ignore"):
            return [np.asarray(self.compute(x)).astype(x.dtype, copy=False)]

    def couple(self, relations: Relations, node: Node) -> None:
        relations.elementwise(node, self.commutes)


class Exp(Unary):
    """``e**x``."""

    function = np.exp


class Log(Unary):
    """Natural logarithm."""

    function = np.log


class Sqrt(Unary):
    """Square root."""

    function = np.sqrt


class Reciprocal(Unary):
    """``1 / x``."""

    def compute(self, x: Array) -> Array:
        return np.asarray(np.divide(x.dtype.type(1), x))


class Neg(Unary):
    """``-x``."""

    function = np.negative
    commutes = Action.COUPLED | Action.LINEAR

    def couple(self, relations: Relations, node: Node) -> None:
        super().couple(relations, node)
        relations.added(node, -1)


class Abs(Unary):
    """Absolute value."""

    function = np.abs
    commutes = Action.COUPLED | Action.SCALE


class Sign(Unary):
    """-1, 0 or 1."""

    function = np.sign


class Floor(Unary):
    """Greatest integer not above ``x``."""

    function = np.floor


class Ceil(Unary):
    """Least integer not below ``x``."""

    function = np.ceil


class Round(Unary):
    """Nearest integer, halves to even."""

    function = np.rint


class Sin(Unary):
    """Sine."""

    function = np.sin


class Cos(Unary):
    """Cosine."""

    function = np.cos


class Identity(Unary):
    """``x``."""

    commutes = Action.ALL

    def infer(self, ins: Operands) -> list[TensorType]:
        return [operand(ins, 0).type]

    def compute(self, x: Array) -> Array:
        return x


@dataclass(frozen=True)
class Cast(Op):
    """Change the element type: floats to integers truncate, anything to bool is ``!= 0``.

    ``saturate`` and ``round_mode`` are for types of eight bits and fewer (``narrow.convert``).
    """

    to: str = "float32"
    saturate: bool = True
    round_mode: str = "up"

    def infer(self, ins: Operands) -> list[TensorType]:
        if self.to not in DTYPES or self.to == "string":
            raise ValueError(f"cannot cast to {self.to!r}")
        return [operand(ins, 0).type.with_dtype(self.to)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        with np.errstate(all="ignore"):
            return [convert(given(ins), self.to, self.saturate, self.round_mode)]

    def couple(self, relations: Relations, node: Node) -> None:
        real = node.operands[0].type.is_float and node.output.type.is_float
        relations.elementwise(node, Action.ALL if real else Action.COUPLED)


@dataclass(frozen=True)
class Clip(Unary):
    """``min(max(x, low), high)``; a bound that is None does not bind."""

    min: float | None = None
    max: float | None = None

    def compute(self, x: Array) -> Array:
        y = x if self.min is None else np.maximum(x, np.asarray(self.min, x.dtype))
        return y if self.max is None else np.minimum(y, np.asarray(self.max, x.dtype))

    def couple(self, relations: Relations, node: Node) -> None:
        homogeneous = not self.min and not self.max  # no bound but zero
        relations.elementwise(node, Action.COUPLED | (Action.SCALE if homogeneous else Action(0)))


class Variadic(Op):
    """A function of any number of operands of one element type, which broadcast."""

    function: ClassVar[Any]
    commutes: ClassVar[Action] = Action.COUPLED
    """With which actions on channels that are done to all operands alike."""
    takes_strings: ClassVar[bool] = False

    def infer(self, ins: Operands) -> list[TensorType]:
        first = operand(ins, 0).type
        if first.dtype == "string" and not self.takes_strings:
            raise ValueError("strings are not numbers")
        types = [operand(ins, i).type for i in range(len(ins))]
        if any(t.dtype != first.dtype for t in types):
            raise ValueError(f"element types differ: {', '.join(map(str, types))}")
        return [TensorType(first.dtype, broadcast(*(t.shape for t in types)))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        arrays = [given(ins, i) for i in range(len(ins))]
        with np.errstate(all="ignore"):
            result = reduce(self.combine, arrays)
        return [np.asarray(result).astype(arrays[0].dtype, copy=False)]

    def combine(self, a: Array, b: Array) -> Array:
        """The function of two operands."""
        return np.asarray(type(self).function(a, b))

    def couple(self, relations: Relations, node: Node) -> None:
        relations.elementwise(node)
        if alike := self.commutes & Action.VALUES:
            sides = [relations.axes(v) for v in node.operands]
            relations.together(sides, relations.axes(node.output), alike)


class Binary(Variadic):
    """A function of two operands of one element type, which broadcast."""

    def infer(self, ins: Operands) -> list[TensorType]:
        if len(ins) != 2:
            raise ValueError(f"takes two operands, not {len(ins)}")
        return super().infer(ins)


class Add(Binary):
    """``a + b``."""

    function = np.add
    commutes = Action.COUPLED | Action.LINEAR

    def couple(self, relations: Relations, node: Node) -> None:
        super().couple(relations, node)
        relations.added(node, 1, 1)


class Sub(Binary):
    """``a - b``."""

    function = np.subtract
    commutes = Action.COUPLED | Action.LINEAR

    def couple(self, relations: Relations, node: Node) -> None:
        super().couple(relations, node)
        relations.added(node, 1, -1)


class Mul(Binary):
    """``a * b``."""

    function = np.multiply

    def couple(self, relations: Relations, node: Node) -> None:
        super().couple(relations, node)
        a, b, y = map(relations.axes, (*node.operands, node.output))
        relations.multiplied((a, b), y, 1, 1)


class Div(Binary):
    """``a / b``; integers truncate towards zero."""

    def couple(self, relations: Relations, node: Node) -> None:
        super().couple(relations, node)
        a, b, y = map(relations.axes, (*node.operands, node.output))
        relations.multiplied((a, b), y, 1, -1)

    def combine(self, a: Array, b: Array) -> Array:
        if a.dtype.kind not in "iu":
            return np.divide(a, b)
        quotient = np.floor_divide(a, b)
        inexact = np.multiply(quotient, b) != a
        return np.where(inexact & (np.less(a, 0) != np.less(b, 0)), np.add(quotient, 1), quotient)


class Pow(Binary):
    """``a ** b`` in the type of ``a``; the exponent may have another type."""

    def infer(self, ins: Operands) -> list[TensorType]:
        a, b = operand(ins, 0).type, operand(ins, 1).type
        return [TensorType(a.dtype, broadcast(a.shape, b.shape))]

    def combine(self, a: Array, b: Array) -> Array:
        if a.dtype.kind == "f":
            return np.asarray(np.power(a, b.astype(a.dtype)))
        return np.power(a.astype(np.float64), b.astype(np.float64))


@dataclass(frozen=True)
class Mod(Binary):
    """Remainder: the sign of ``b`` (Python), or of ``a`` with ``fmod`` (C)."""

    fmod: bool = False

    def combine(self, a: Array, b: Array) -> Array:
        return np.asarray(np.fmod(a, b) if self.fmod else np.mod(a, b))


class PRelu(Binary):
    """``x`` where positive, else ``slope * x``.  Operands: x, slope (broadcasts to x)."""

    def couple(self, relations: Relations, node: Node) -> None:
        super().couple(relations, node)
        x, y = relations.axes(node.operands[0]), relations.axes(node.output)
        relations.together([x], y, Action.SCALE)

    def combine(self, a: Array, b: Array) -> Array:
        return np.where(np.less(a, 0), np.multiply(a, b), a)


class Min(Variadic):
    """Least of the operands."""

    function = np.minimum
    commutes = Action.COUPLED | Action.SCALE | Action.SHIFT


class Max(Variadic):
    """Greatest of the operands."""

    function = np.maximum
    commutes = Action.COUPLED | Action.SCALE | Action.SHIFT


class Sum(Variadic):
    """Sum of the operands."""

    function = np.add
    commutes = Action.COUPLED | Action.LINEAR


class Mean(Variadic):
    """Mean of the operands."""

    function = np.add
    commutes = Action.COUPLED | Action.VALUES

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        (total,) = super().eval(ins)
        return [np.divide(total, total.dtype.type(len(ins)))]


class Where(Op):
    """``a`` where the condition holds, else ``b``.  Operands: condition (bool), a, b."""

    def infer(self, ins: Operands) -> list[TensorType]:
        condition, a, b = (operand(ins, i).type for i in range(3))
        if condition.dtype != "bool" or a.dtype != b.dtype:
            raise ValueError(f"cannot choose between {a} and {b} by {condition}")
        return [TensorType(a.dtype, broadcast(condition.shape, a.shape, b.shape))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.where(given(ins, 0).astype(bool), given(ins, 1), given(ins, 2))]

    def couple(self, relations: Relations, node: Node) -> None:
        relations.elementwise(node)
        _, a, b, y = map(relations.axes, (*node.operands, node.output))
        relations.together([a, b], y, Action.SCALE | Action.SHIFT)
