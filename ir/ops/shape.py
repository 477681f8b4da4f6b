"""Ops that change shapes and the order of axes, and shapes as data.

Where a shape is an operand that is not constant, the attribute is None and the operand stays.  A
shape with symbols keeps both: the attribute for inference, the operand for evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import types
from ..coupling.action import Action
from ..types import Array, Dim, TensorType
from .base import Op, Operands, given, normal_axis, operand
from .dims import plus, product, quotient

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node


def unknown_shape(ins: Operands, index: int) -> types.Shape:
    """Fresh symbols for a shape that is only known at run time; its rank must be known."""
    value = operand(ins, index)
    if value.type.rank != 1 or not isinstance(value.type.shape[0], int):
        raise ValueError(f"the rank of the result, the length of {value!r}, is not known")
    return tuple(f"{value.name.replace('*', 'x')}.{i}" for i in range(value.type.shape[0]))


def static_shape(
    shape: types.Shape | None, ins: Sequence[Array | None], index: int
) -> tuple[int, ...]:
    """The shape as numbers: the attribute, or what the operand says."""
    if shape is not None and all(isinstance(d, int) for d in shape):
        return tuple(d for d in shape if isinstance(d, int))
    return tuple(int(d) for d in given(ins, index))


class Reshaping(Op):
    """The same elements in the same order, in another shape."""

    def couple(self, relations: Relations, node: Node) -> None:
        x, y = node.operands[0], node.output
        relations.product(relations.axes(x), relations.axes(y), Action.ALL)


@dataclass(frozen=True)
class Reshape(Reshaping):
    """The same elements in another shape: 0 keeps the axis of the operand, -1 is what is left.

    With ``allowzero`` 0 means zero.  Operands: x, shape (if it is not constant).
    """

    shape: tuple[Dim, ...] | None = None
    allowzero: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if self.shape is None:
            return [TensorType(x.dtype, unknown_shape(ins, 1))]
        target = [
            x.shape[i] if d == 0 and not self.allowzero else d for i, d in enumerate(self.shape)
        ]
        if target.count(-1) > 1:
            raise ValueError(f"{self.shape} has more than one -1")
        if -1 in target:
            at = target.index(-1)
            target[at] = quotient(x.shape, [d for d in target if d != -1])
        whole, got = product(x.shape), product(target)
        if whole != got and isinstance(whole, int) and isinstance(got, int):
            raise ValueError(f"cannot reshape {x} to {tuple(target)}")
        return [TensorType(x.dtype, tuple(target))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        shape = static_shape(self.shape, ins, 1)
        if not self.allowzero:
            shape = tuple(x.shape[i] if d == 0 else d for i, d in enumerate(shape))
        return [x.reshape(shape)]

    def couple(self, relations: Relations, node: Node) -> None:
        if len(node.operands) > 1:
            relations.pin_all(node, "reshaped by data")
        else:
            super().couple(relations, node)


@dataclass(frozen=True)
class Flatten(Reshaping):
    """A matrix: the axes before ``axis`` and those from it on."""

    axis: int = 1

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        at = self._at(x.rank)
        return [TensorType(x.dtype, (product(x.shape[:at]), product(x.shape[at:])))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        at = self._at(x.ndim)
        return [x.reshape(int(np.prod(x.shape[:at])), int(np.prod(x.shape[at:])))]

    def _at(self, rank: int) -> int:
        return rank if self.axis == rank else normal_axis(self.axis, rank)


@dataclass(frozen=True)
class Transpose(Op):
    """Axis ``i`` of the result is axis ``perm[i]`` of the operand."""

    perm: tuple[int, ...] = ()

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if sorted(self.perm) != list(range(x.rank)):
            raise ValueError(f"{self.perm} does not permute the axes of {x}")
        return [TensorType(x.dtype, tuple(x.shape[i] for i in self.perm))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.ascontiguousarray(given(ins).transpose(self.perm))]

    def couple(self, relations: Relations, node: Node) -> None:
        for k, axis in enumerate(self.perm):
            before, after = relations.axis(node.operands[0], axis), relations.axis(node.output, k)
            relations.same(before, after, Action.ALL)


@dataclass(frozen=True)
class Squeeze(Reshaping):
    """Take out ``axes``, all of length 1 (None: every such axis)."""

    axes: tuple[int, ...] | None = None

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        axes = self._axes(x.shape)
        if any(isinstance(x.shape[a], int) and x.shape[a] != 1 for a in axes):
            raise ValueError(f"cannot squeeze axes {self.axes} of {x}")
        return [TensorType(x.dtype, tuple(d for i, d in enumerate(x.shape) if i not in axes))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        return [x.squeeze(self._axes(x.shape))]

    def _axes(self, shape: types.Shape) -> tuple[int, ...]:
        if self.axes is None:
            return tuple(i for i, d in enumerate(shape) if d == 1)
        return tuple(normal_axis(a, len(shape)) for a in self.axes)


@dataclass(frozen=True)
class Unsqueeze(Reshaping):
    """Put axes of length 1 where the result's ``axes`` are."""

    axes: tuple[int, ...] = ()

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        rank = x.rank + len(self.axes)
        axes = {normal_axis(a, rank) for a in self.axes}
        if len(axes) != len(self.axes):
            raise ValueError(f"axes {self.axes} repeat")
        dims = iter(x.shape)
        return [TensorType(x.dtype, tuple(1 if i in axes else next(dims) for i in range(rank)))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.expand_dims(given(ins), self.axes)]


@dataclass(frozen=True)
class Concat(Op):
    """Operands one after another along ``axis``."""

    axis: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        types = [operand(ins, i).type for i in range(len(ins))]
        first = types[0]
        at = normal_axis(self.axis, first.rank)
        shape: list[Dim] = list(first.shape)
        for t in types[1:]:
            if t.dtype != first.dtype or t.rank != first.rank:
                raise ValueError(f"{first} and {t} do not go together")
            for i, d in enumerate(t.shape):
                if i == at:
                    shape[i] = plus(shape[i], d)
                elif shape[i] != d:
                    if isinstance(d, int) and isinstance(shape[i], int):
                        raise ValueError(f"{first} and {t} differ on axis {i}")
                    shape[i] = d if isinstance(d, int) else shape[i]
        return [TensorType(first.dtype, tuple(shape))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.concatenate([given(ins, i) for i in range(len(ins))], self.axis)]

    def couple(self, relations: Relations, node: Node) -> None:
        relations.parts(node.output, node.operands, self.axis)


@dataclass(frozen=True)
class Split(Op):
    """Parts of ``sizes`` along ``axis``, one result each."""

    axis: int = 0
    sizes: tuple[int, ...] = ()

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        at = normal_axis(self.axis, x.rank)
        if isinstance(x.shape[at], int) and sum(self.sizes) != x.shape[at]:
            raise ValueError(f"parts {self.sizes} do not make up axis {self.axis} of {x}")
        return [
            TensorType(x.dtype, (*x.shape[:at], size, *x.shape[at + 1 :])) for size in self.sizes
        ]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return list(np.split(given(ins), np.cumsum(self.sizes)[:-1], self.axis))

    def couple(self, relations: Relations, node: Node) -> None:
        relations.parts(node.operands[0], node.outputs, self.axis)


@dataclass(frozen=True)
class Expand(Op):
    """Broadcast the operand against ``shape``.  Operands: x, shape (if it is not constant)."""

    shape: tuple[Dim, ...] | None = None

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        target = unknown_shape(ins, 1) if self.shape is None else self.shape
        rank = max(x.rank, len(target))
        own = (*(1,) * (rank - x.rank), *x.shape)
        target = (*(1,) * (rank - len(target)), *target)
        out: list[Dim] = []
        for a, b in zip(own, target, strict=True):
            if 1 not in (a, b) and a != b and isinstance(a, int) and isinstance(b, int):
                raise ValueError(f"cannot expand {x} to {target}")
            out.append(b if a == 1 or (isinstance(b, int) and b != 1) else a)
        return [TensorType(x.dtype, tuple(out))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        shape = np.broadcast_shapes(x.shape, static_shape(self.shape, ins, 1))
        return [np.broadcast_to(x, shape).copy()]

    def couple(self, relations: Relations, node: Node) -> None:
        if len(node.operands) > 1:
            relations.pin_all(node, "expanded by data")
        else:
            relations.broadcast(node.operands[0], node.output, Action.ALL)


@dataclass(frozen=True)
class Tile(Op):
    """Repeat along each axis.  Operands: x, repeats (if they are not constant)."""

    repeats: tuple[int, ...] | None = None

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if self.repeats is None:
            return [
                TensorType(x.dtype, tuple(f"{operand(ins, 1).name}.{i}" for i in range(x.rank)))
            ]
        if len(self.repeats) != x.rank:
            raise ValueError(f"{len(self.repeats)} repeats for {x}")
        dims = (product((n, d)) for n, d in zip(self.repeats, x.shape, strict=True))
        return [TensorType(x.dtype, tuple(dims))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.tile(given(ins), static_shape(self.repeats, ins, 1))]

    def couple(self, relations: Relations, node: Node) -> None:
        if self.repeats is None:
            relations.pin_all(node, "repeated by data")
            return
        x, y = node.operands[0], node.output
        for k, n in enumerate(self.repeats):
            copies = relations.virtual("copies", n)
            relations.pin(copies, "copies", Action.VALUES)
            relations.product([copies, relations.axis(x, k)], [relations.axis(y, k)], Action.ALL)


@dataclass(frozen=True)
class Shape(Op):
    """Dimensions ``start`` to ``end`` of the operand, int64."""

    start: int = 0
    end: int | None = None

    def infer(self, ins: Operands) -> list[TensorType]:
        dims = operand(ins, 0).type.shape[self.start : self.end]
        return [TensorType("int64", (len(dims),))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.asarray(given(ins).shape[self.start : self.end], np.int64)]


class Size(Op):
    """Number of elements, int64."""

    def infer(self, ins: Operands) -> list[TensorType]:
        operand(ins, 0)
        return [TensorType("int64", ())]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.asarray(given(ins).size, np.int64)]


@dataclass(frozen=True)
class ConstantOfShape(Op):
    """A tensor full of ``value``.  Operand: shape, unless the attribute says it."""

    value: float | int | bool = 0.0
    dtype: str = "float32"
    shape: tuple[Dim, ...] | None = None

    def infer(self, ins: Operands) -> list[TensorType]:
        return [TensorType(self.dtype, unknown_shape(ins, 0) if self.shape is None else self.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.full(static_shape(self.shape, ins, 0), self.value, self.dtype)]

    def couple(self, relations: Relations, node: Node) -> None:
        if node.operands:
            relations.pin_all(node, "made by data")
        else:
            relations.axes(node.output)


@dataclass(frozen=True)
class Range(Op):
    """``start, start + delta, ...`` below ``limit``.  Operands: start, limit, delta (scalars)."""

    def infer(self, ins: Operands) -> list[TensorType]:
        start, limit, delta = (operand(ins, i) for i in range(3))
        if start.data is None or limit.data is None or delta.data is None:
            return [TensorType(start.type.dtype, (f"range({limit.name})".replace("*", "x"),))]
        count = np.ceil((limit.data.item() - start.data.item()) / delta.data.item())
        return [TensorType(start.type.dtype, (max(int(count), 0),))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        start, limit, delta = (given(ins, i) for i in range(3))
        return [np.arange(start.item(), limit.item(), delta.item()).astype(start.dtype)]
