"""Ops that pick, place and pad elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..coupling.action import Action
from ..types import Array, Dim, Shape, TensorType
from .base import Op, Operands, given, normal_axis, operand, optional
from .dims import factors, known, plus

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node

FOREVER = 2**31 - 1


@dataclass(frozen=True)
class Slice(Op):
    """Elements ``starts`` to ``ends`` with ``steps`` along ``axes``; negative numbers as in Python.

    Operands: x; starts, ends, axes, steps where they are not constant (the attributes are None).
    """

    starts: tuple[int, ...] | None = None
    ends: tuple[int, ...] | None = None
    axes: tuple[int, ...] | None = None
    steps: tuple[int, ...] | None = None

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        shape: list[Dim] = list(x.shape)
        if self.starts is None or self.ends is None:
            moved = (
                range(x.rank) if self.axes is None else (normal_axis(a, x.rank) for a in self.axes)
            )
            for a in moved:
                shape[a] = f"{operand(ins, 2).name}.{a}".replace("*", "x")
            return [TensorType(x.dtype, tuple(shape))]
        for a, start, end, step in _cuts(self.starts, self.ends, self.axes, self.steps, x.rank):
            shape[a] = _length(shape[a], start, end, step)
        return [TensorType(x.dtype, tuple(shape))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        parts = [self.starts, self.ends, self.axes, self.steps]
        if self.starts is None:
            dynamic = (optional(ins, i) for i in range(1, 5))
            parts = [None if a is None else tuple(int(i) for i in a) for a in dynamic]
        starts, ends, axes, steps = parts
        index = [slice(None)] * x.ndim
        for a, start, end, step in _cuts(
            starts or (), ends or (), axes or self.axes, steps, x.ndim
        ):
            index[a] = _cut(x.shape[a], start, end, step)
        return [np.ascontiguousarray(x[tuple(index)])]

    def indices(self, shape: Shape) -> list[Array]:
        """The positions taken of each axis; of an axis whose length is a symbol, all."""
        taken = [np.arange(factors([d])[0]) for d in shape]
        if self.starts is not None and self.ends is not None:
            for a, *cut in _cuts(self.starts, self.ends, self.axes, self.steps, len(shape)):
                taken[a] = taken[a][_cut(len(taken[a]), *cut)]
        return taken

    def couple(self, relations: Relations, node: Node) -> None:
        x, y = node.operands[0], node.output
        if self.starts is None or len(node.operands) > 1:
            relations.pin_all(node, "cut by data")
            return
        for k, indices in enumerate(self.indices(x.type.shape)):
            relations.index(relations.axis(x, k), indices, relations.axis(y, k), Action.ALL)


def _cuts(
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...] | None,
    steps: tuple[int, ...] | None,
    rank: int,
) -> list[tuple[int, int, int, int]]:
    """Axis, start, end and step of each cut."""
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    return list(zip((normal_axis(a, rank) for a in axes), starts, ends, steps, strict=True))


def _cut(size: int, start: int, end: int, step: int) -> slice:
    """The bounds as ONNX clamps them; unlike Python's when the step is negative."""
    start, end = (i + size if i < 0 else i for i in (start, end))
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(max(start, 0), None if end < 0 else end, step)


def _length(d: Dim, start: int, end: int, step: int) -> Dim:
    if isinstance(d, int):
        return len(range(*_cut(d, start, end, step).indices(d)))
    if step == 1 and start >= 0 and (end >= FOREVER or end < 0):
        return plus(d, (0 if end >= FOREVER else end) - start)
    if step == 1 and start < 0 and end >= FOREVER:
        return -start
    if step == -1 and end < -FOREVER and start == -1:
        return d
    return f"({d}<{start}:{end}:{step}>)".replace("*", "x")


@dataclass(frozen=True)
class Pad(Op):
    """Add ``pads`` (begins of all axes, then ends; negative ones cut).

    ``mode``: ``constant`` (with ``value``), ``reflect``, ``edge``, ``wrap``.  Operands: x; pads
    where they are not constant (the attribute is None).
    """

    pads: tuple[int, ...] | None = None
    mode: str = "constant"
    value: float | int | bool = 0.0

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if self.pads is None:
            name = operand(ins, 1).name
            return [TensorType(x.dtype, tuple(f"{name}.{i}" for i in range(x.rank)))]
        if len(self.pads) != 2 * x.rank:
            raise ValueError(f"{len(self.pads)} pads for {x}")
        dims = (plus(d, self.pads[i] + self.pads[i + x.rank]) for i, d in enumerate(x.shape))
        return [TensorType(x.dtype, tuple(dims))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        pads = self.pads or tuple(int(p) for p in given(ins, 1))
        ends = [(pads[i], pads[i + x.ndim]) for i in range(x.ndim)]
        inner = tuple(
            slice(max(-a, 0), d - max(-b, 0)) for (a, b), d in zip(ends, x.shape, strict=True)
        )
        grow = [(max(a, 0), max(b, 0)) for a, b in ends]
        if self.mode == "constant":
            return [np.pad(x[inner], grow, constant_values=x.dtype.type(self.value))]
        mode = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[self.mode]
        return [np.asarray(np.pad(x[inner], grow, mode=mode))]  # type: ignore[call-overload]

    def couple(self, relations: Relations, node: Node) -> None:
        x, y = node.operands[0], node.output
        if self.pads is None or len(node.operands) > 1:
            relations.pin_all(node, "padded by data")
            return
        commutes = Action.ALL
        if self.mode == "constant" and any(self.pads):
            commutes = Action.COUPLED if self.value else Action.COUPLED | Action.LINEAR
        for k, (a, b) in enumerate(zip(relations.axes(x), relations.axes(y), strict=True)):
            before, after = self.pads[k], self.pads[k + x.type.rank]
            if before == after == 0:
                relations.same(a, b, commutes)
            elif self.mode != "constant" or min(before, after) < 0:
                relations.pin(a, "spatial position")
                relations.pin(b, "spatial position")
            else:
                relations.index(b, np.arange(relations.sizes[a]) + before, a, commutes)


@dataclass(frozen=True)
class Gather(Op):
    """``x`` at ``indices`` along ``axis``; negative indices count from the end."""

    axis: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        x, indices = operand(ins, 0).type, operand(ins, 1).type
        a = normal_axis(self.axis, x.rank)
        return [TensorType(x.dtype, (*x.shape[:a], *indices.shape, *x.shape[a + 1 :]))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.asarray(np.take(given(ins), given(ins, 1).astype(np.int64), self.axis))]

    def couple(self, relations: Relations, node: Node) -> None:
        x, indices, y = node.operands[0], node.operands[1], node.output
        at, extra = normal_axis(self.axis, x.type.rank), indices.type.rank
        axes, out = relations.axes(x), relations.axes(y)
        for a, b in zip(axes[:at] + axes[at + 1 :], out[:at] + out[at + extra :], strict=True):
            relations.same(a, b, Action.ALL)
        if indices.data is None:
            relations.pin(axes[at], "looked up by data")
            for a, b in zip(relations.axes(indices), out[at : at + extra], strict=True):
                relations.same(a, b)
        elif extra == 1:
            known = indices.data % relations.sizes[axes[at]]
            relations.index(axes[at], known, out[at], Action.ALL)
        else:
            relations.pin(axes[at], "selected by number")


@dataclass(frozen=True)
class GatherElements(Op):
    """``y[i][j] = x[indices[i][j]][j]`` (for axis 0)."""

    axis: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        x, indices = operand(ins, 0).type, operand(ins, 1).type
        normal_axis(self.axis, x.rank)
        return [TensorType(x.dtype, indices.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, indices = given(ins), given(ins, 1).astype(np.int64)
        return [x[_along(x, indices, self.axis)]]


@dataclass(frozen=True)
class GatherND(Op):
    """Slices of ``x`` at the index tuples along the last axis of ``indices``."""

    batch_dims: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        x, indices = operand(ins, 0).type, operand(ins, 1).type
        depth = known(indices.shape[-1]) + self.batch_dims
        return [TensorType(x.dtype, (*indices.shape[:-1], *x.shape[depth:]))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, indices, b = given(ins), given(ins, 1).astype(np.int64), self.batch_dims
        lead = np.indices(indices.shape[:-1])[:b]
        picked = x[(*lead, *np.moveaxis(indices, -1, 0))]
        return [np.asarray(picked)]


@dataclass(frozen=True)
class ScatterElements(Op):
    """Copy of ``x``, ``updates`` at ``indices`` along ``axis``; operands: x, indices, updates."""

    axis: int = 0
    reduction: str = "none"

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        normal_axis(self.axis, x.rank)
        return [TensorType(x.dtype, x.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, indices = given(ins).copy(), given(ins, 1).astype(np.int64)
        _scatter(x, _along(x, indices, self.axis), given(ins, 2), self.reduction)
        return [x]


@dataclass(frozen=True)
class ScatterND(Op):
    """Copy of ``x`` with slices replaced; operands: x, indices (index tuples last), updates."""

    reduction: str = "none"

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        return [TensorType(x.dtype, x.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, indices = given(ins).copy(), given(ins, 1).astype(np.int64)
        _scatter(x, tuple(np.moveaxis(indices, -1, 0)), given(ins, 2), self.reduction)
        return [x]


@dataclass(frozen=True)
class OneHot(Op):
    """``on`` at the index along a new ``axis`` of length ``depth``, else ``off``.

    Operands: indices, values ``[off, on]``.
    """

    depth: int = 1
    axis: int = -1

    def infer(self, ins: Operands) -> list[TensorType]:
        indices, values = operand(ins, 0).type, operand(ins, 1).type
        a = normal_axis(self.axis, indices.rank + 1)
        return [TensorType(values.dtype, (*indices.shape[:a], self.depth, *indices.shape[a:]))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        indices, values = given(ins).astype(np.int64), given(ins, 1)
        wrapped = np.where(indices < 0, indices + self.depth, indices)
        shape = [1] * (indices.ndim + 1)
        a = normal_axis(self.axis, indices.ndim + 1)
        shape[a] = self.depth
        hit = np.expand_dims(wrapped, a) == np.arange(self.depth).reshape(shape)
        return [np.where(hit, values[1], values[0])]


class NonZero(Op):
    """Indices of the elements that are not zero, ``int64[rank, count]``."""

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0)
        return [TensorType("int64", (x.type.rank, f"nonzero({x.name})".replace("*", "x")))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.asarray(np.nonzero(given(ins)), np.int64)]


@dataclass(frozen=True)
class Trilu(Op):
    """Upper (or lower) triangle of the last two axes, from diagonal ``k``; the rest is zero."""

    upper: bool = True
    k: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if x.rank < 2:
            raise ValueError(f"{x} is no matrix")
        return [TensorType(x.dtype, x.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [(np.triu if self.upper else np.tril)(given(ins), self.k)]

    def couple(self, relations: Relations, node: Node) -> None:
        relations.broadcast(node.operands[0], node.output)
        for k in (-2, -1):
            relations.pin(relations.axis(node.output, k), "a triangle")


def _along(x: Array, indices: Array, axis: int) -> tuple[Array, ...]:
    """Index arrays that follow ``indices`` on ``axis`` and run straight on the others."""
    grid: list[Array] = list(np.indices(indices.shape))
    grid[normal_axis(axis, x.ndim)] = indices
    return tuple(grid)


def _scatter(x: Array, index: tuple[Array, ...], updates: Array, reduction: str) -> None:
    ufunc = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}.get(reduction)
    if ufunc is None:
        x[index] = updates
    else:
        ufunc.at(x, index, updates)
