"""Reductions, running sums, sorting, and sums over named axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .. import special
from ..coupling.action import Action
from ..types import Array, Dim, TensorType
from .base import Op, Operands, given, normal_axis, operand
from .dims import known

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node


@dataclass(frozen=True)
class Reduce(Op):
    """One number for all elements along ``axes`` (None: all axes)."""

    axes: tuple[int, ...] | None = None
    keepdims: bool = True
    sums: ClassVar[bool] = False
    """Whether zeros do not count (but for the divisor of a mean)."""

    commutes: ClassVar[Action] = Action.COUPLED
    """With which actions on the channels of the axes that stay."""

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        axes = self._axes(x.rank)
        dims = (
            1 if i in axes else d for i, d in enumerate(x.shape) if self.keepdims or i not in axes
        )
        return [TensorType(x.dtype, tuple(dims))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        y = self.compute(x, self._axes(x.ndim))
        return [np.asarray(y).astype(x.dtype, copy=False)]

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        """The reduction over the normalised ``axes``."""
        raise NotImplementedError(self.name)

    def _axes(self, rank: int) -> tuple[int, ...]:
        return (
            tuple(range(rank))
            if self.axes is None
            else tuple(normal_axis(a, rank) for a in self.axes)
        )

    def couple(self, relations: Relations, node: Node) -> None:
        x = node.operands[0]
        axes = self._axes(x.type.rank)
        kept = [a for k, a in enumerate(relations.axes(x)) if k not in axes]
        relations.product(kept, relations.axes(node.output), self.commutes)
        for k in axes:
            relations.pin(relations.axis(x, k), "summed over", Action.VALUES)
            if self.sums:
                relations.contract(node, 0, relations.axis(x, k))
            else:
                relations.pin(relations.axis(x, k), self.name, ~Action.PERMUTE)


class ReduceMean(Reduce):
    """Mean."""

    sums = True
    commutes = Action.ALL

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.mean(x, axes, keepdims=self.keepdims))


class ReduceSum(Reduce):
    """Sum."""

    sums = True
    commutes = Action.COUPLED | Action.LINEAR

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.sum(x, axes, keepdims=self.keepdims))


class ReduceMax(Reduce):
    """Greatest element."""

    commutes = Action.COUPLED | Action.SCALE | Action.SHIFT

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.max(x, axes, keepdims=self.keepdims, initial=_extreme(x, -1)))


class ReduceMin(Reduce):
    """Least element."""

    commutes = Action.COUPLED | Action.SCALE | Action.SHIFT

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.min(x, axes, keepdims=self.keepdims, initial=_extreme(x, 1)))


class ReduceProd(Reduce):
    """Product."""

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.prod(x, axes, keepdims=self.keepdims))


class ReduceL1(Reduce):
    """Sum of absolute values."""

    sums = True

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.sum(np.abs(x), axes, keepdims=self.keepdims))


class ReduceL2(Reduce):
    """Square root of the sum of squares."""

    sums = True

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.sqrt(np.sum(np.square(x), axes, keepdims=self.keepdims)))


class ReduceSumSquare(Reduce):
    """Sum of squares."""

    sums = True

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.sum(np.square(x), axes, keepdims=self.keepdims))


class ReduceLogSum(Reduce):
    """Logarithm of the sum."""

    sums = True

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.log(np.sum(x, axes, keepdims=self.keepdims)))


class ReduceLogSumExp(Reduce):
    """Logarithm of the sum of exponentials."""

    def compute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return special.logsumexp(x, axes, self.keepdims)


def _extreme(x: Array, sign: int) -> float | int | bool:
    """The least (``sign`` -1) or greatest number of a type: what no elements amount to."""
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype.name)
        return int(limits.max if sign > 0 else limits.min)
    return sign > 0 if x.dtype.kind == "b" else sign * np.inf


@dataclass(frozen=True)
class ArgReduce(Op):
    """The index of one element along ``axis``, int64."""

    axis: int = 0
    keepdims: bool = True
    select_last_index: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        a = normal_axis(self.axis, x.rank)
        middle = (1,) if self.keepdims else ()
        return [TensorType("int64", (*x.shape[:a], *middle, *x.shape[a + 1 :]))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        if self.select_last_index:
            turned = self.pick(np.flip(x, self.axis))
            return [np.asarray(x.shape[self.axis] - 1 - turned, np.int64)]
        return [np.asarray(self.pick(x), np.int64)]

    def pick(self, x: Array) -> Array:
        """The first index along the axis."""
        raise NotImplementedError(self.name)

    def couple(self, relations: Relations, node: Node) -> None:
        axes = relations.axes(node.operands[0])
        along = axes.pop(normal_axis(self.axis, len(axes)))
        relations.pin(along, "counted by number")
        relations.product(axes, relations.axes(node.output))


class ArgMax(ArgReduce):
    """Index of the greatest element."""

    def pick(self, x: Array) -> Array:
        return np.asarray(np.argmax(x, self.axis, keepdims=self.keepdims))


class ArgMin(ArgReduce):
    """Index of the least element."""

    def pick(self, x: Array) -> Array:
        return np.asarray(np.argmin(x, self.axis, keepdims=self.keepdims))


@dataclass(frozen=True)
class CumSum(Op):
    """Running sum along ``axis``; ``exclusive`` leaves out the element itself."""

    axis: int = 0
    exclusive: bool = False
    reverse: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        normal_axis(self.axis, x.rank)
        return [TensorType(x.dtype, x.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        x = np.flip(x, self.axis) if self.reverse else x
        y = np.cumsum(x, self.axis, dtype=x.dtype)
        if self.exclusive:
            y = np.roll(y, 1, self.axis)
            np.moveaxis(y, self.axis, 0)[0] = 0
        return [np.ascontiguousarray(np.flip(y, self.axis)) if self.reverse else y]

    def couple(self, relations: Relations, node: Node) -> None:
        relations.broadcast(node.operands[0], node.output)
        relations.pin(relations.axis(node.output, self.axis), "a running sum")


@dataclass(frozen=True)
class CumProd(CumSum):
    """Running product along ``axis``; ``exclusive`` leaves out the element itself."""

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        x = np.flip(x, self.axis) if self.reverse else x
        y = np.cumprod(x, self.axis, dtype=x.dtype)
        if self.exclusive:
            y = np.roll(y, 1, self.axis)
            np.moveaxis(y, self.axis, 0)[0] = 1
        return [np.ascontiguousarray(np.flip(y, self.axis)) if self.reverse else y]


class Det(Op):
    """Determinants of the matrices in the last two axes."""

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if x.rank < 2 or x.shape[-1] != x.shape[-2]:
            raise ValueError(f"{x} holds no square matrices")
        return [TensorType(x.dtype, x.shape[:-2])]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        return [np.asarray(np.linalg.det(x)).astype(x.dtype)]


@dataclass(frozen=True)
class TopK(Op):
    """The ``k`` greatest (or least) elements along ``axis``; results: values, int64 indices.

    Of equal elements the one of lower index comes first.
    """

    k: int = 1
    axis: int = -1
    largest: bool = True
    sorted: bool = True

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        a = normal_axis(self.axis, x.rank)
        if isinstance(x.shape[a], int) and known(x.shape[a]) < self.k:
            raise ValueError(f"axis {self.axis} of {x} has no {self.k} elements")
        shape: tuple[Dim, ...] = (*x.shape[:a], self.k, *x.shape[a + 1 :])
        return [TensorType(x.dtype, shape), TensorType("int64", shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        keys = np.negative(x.astype(np.float64)) if self.largest else x
        order = np.argsort(keys, self.axis, kind="stable")
        best = np.take(order, np.arange(self.k), self.axis)
        return [np.take_along_axis(x, best, self.axis), best.astype(np.int64)]

    def couple(self, relations: Relations, node: Node) -> None:
        x = node.operands[0]
        for k, axis in enumerate(relations.axes(x)):
            for y in node.outputs:
                if k == normal_axis(self.axis, x.type.rank):
                    relations.pin(axis, "sorted and counted")
                    relations.pin(relations.axis(y, k), "sorted and counted")
                else:
                    relations.same(axis, relations.axis(y, k))


@dataclass(frozen=True)
class Einsum(Op):
    """Sum of products over named axes, in numpy's notation."""

    equation: str = ""

    def infer(self, ins: Operands) -> list[TensorType]:
        first = operand(ins, 0).type
        left, _, right = self.equation.replace(" ", "").partition("->")
        terms = left.split(",")
        if "->" not in self.equation or "." in self.equation or len(terms) != len(ins):
            raise ValueError(f"Einsum {self.equation!r}: name every axis and the result")
        dims: dict[str, Dim] = {}
        for i, term in enumerate(terms):
            t = operand(ins, i).type
            if len(term) != t.rank:
                raise ValueError(f"{term!r} does not name the axes of {t}")
            for letter, d in zip(term, t.shape, strict=True):
                if dims.setdefault(letter, d) in (1, d):
                    dims[letter] = d
        return [TensorType(first.dtype, tuple(dims[letter] for letter in right))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        arrays = [given(ins, i) for i in range(len(ins))]
        return [np.asarray(np.einsum(self.equation, *arrays, optimize=True))]

    def couple(self, relations: Relations, node: Node) -> None:
        left, _, right = self.equation.replace(" ", "").partition("->")
        named = dict(zip(right, relations.axes(node.output), strict=True))
        for i, (term, value) in enumerate(zip(left.split(","), node.operands, strict=True)):
            for letter, axis in zip(term, relations.axes(value), strict=True):
                if letter not in named and letter not in right:
                    relations.contract(node, i, axis)
                relations.same(named.setdefault(letter, axis), axis)
