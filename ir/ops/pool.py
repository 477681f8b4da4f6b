"""Pooling over windows and over whole maps (ONNX semantics, explicit padding)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product as combinations
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..coupling.action import Action
from ..types import Array, TensorType
from .base import Op, Operands, ends, given, operand, tap_of, window_output
from .dims import window

if TYPE_CHECKING:
    from ..coupling.relations import Axis, Relations
    from ..graph import Node


@dataclass(frozen=True)
class Pool(Op):
    """A window that slides over the spatial axes of ``x[N,C,*S]``."""

    kernel: tuple[int, ...] = (1, 1)
    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    ceil_mode: bool = False

    @property
    def commutes(self) -> Action:
        """With which actions on channels."""
        return Action.COUPLED

    def infer(self, ins: Operands) -> list[TensorType]:
        x, n = operand(ins, 0).type, len(self.kernel)
        if x.rank != n + 2 or len(self.strides) != n or len(self.pads) != 2 * n:
            raise ValueError(f"input {x} does not fit {n} spatial axes")
        space = (
            window(d, k, s, ends(self.pads, i), self.dilations[i], self.ceil_mode)
            for i, (d, k, s) in enumerate(zip(x.shape[2:], self.kernel, self.strides, strict=True))
        )
        return [TensorType(x.dtype, (*x.shape[:2], *space))]

    def reduce(self, x: Array, fill: float, combine: Callable[..., Array]) -> Array:
        """Combine the elements under each window; what lies outside ``x`` is ``fill``."""
        n = len(self.kernel)
        sizes, edge = [], []
        for i in range(n):
            size, (begin, end) = x.shape[i + 2], ends(self.pads, i)
            stride, reach = self.strides[i], self.dilations[i] * (self.kernel[i] - 1) + 1
            out = window_output(
                size, self.kernel[i], stride, (begin, end), self.dilations[i], self.ceil_mode
            )
            sizes.append(out)
            edge.append((begin, max(end, (out - 1) * stride + reach - size - begin)))
        padded = np.pad(x, ((0, 0), (0, 0), *edge), constant_values=fill)
        y = np.full((*x.shape[:2], *sizes), fill, x.dtype)
        for tap in combinations(*map(range, self.kernel)):
            combine(y, padded[tap_of(tap, sizes, self.strides, self.dilations)], out=y)
        return y

    def couple(self, relations: Relations, node: Node) -> None:
        x, y = node.operands[0], node.output
        for k in range(2):
            relations.same(relations.axis(x, k), relations.axis(y, k), self.commutes)
        relations.spatial(x, y)


class MaxPool(Pool):
    """Greatest element under each window; padding never wins."""

    @property
    def commutes(self) -> Action:
        """Order is kept."""
        return Action.COUPLED | Action.SCALE | Action.SHIFT

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        return [self.reduce(x, least(x), np.maximum)]


def least(x: Array) -> float:
    """The number of ``x``'s type that no other is below."""
    return -np.inf if x.dtype.kind == "f" else int(np.iinfo(x.dtype.name).min)


@dataclass(frozen=True)
class AveragePool(Pool):
    """Mean of the elements under each window, summed in float64.

    Padding counts as zeros if ``count_include_pad``.
    """

    count_include_pad: bool = False

    @property
    def commutes(self) -> Action:
        """Means are linear; zeros that count do not move with the others."""
        zeros = self.count_include_pad and any(self.pads)
        return Action.COUPLED | Action.LINEAR if zeros else Action.ALL

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, n = given(ins).astype(np.float64), len(self.kernel)
        total = self.reduce(x, 0, np.add)
        counts: Array = np.ones((), np.float64)
        for i in range(n):
            counts = np.multiply.outer(counts, self._taps_inside(x.shape, total.shape, i))
        return [np.divide(total, np.maximum(counts, 1)).astype(given(ins).dtype)]

    def _taps_inside(self, before: Sequence[int], after: Sequence[int], i: int) -> Array:
        """How many taps of each window along spatial axis ``i`` lie on what counts."""
        begin, end = ends(self.pads, i)
        low, high = (-begin, before[i + 2] + end) if self.count_include_pad else (0, before[i + 2])
        starts = np.arange(after[i + 2])[:, None] * self.strides[i] - begin
        at = starts + np.arange(self.kernel[i]) * self.dilations[i]
        return np.asarray(((at >= low) & (at < high)).sum(1))


@dataclass(frozen=True)
class LpPool(Pool):
    """``(sum |x|**p) ** (1/p)`` under each window."""

    p: int = 2

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        powers = np.power(np.abs(given(ins)), self.p)
        return [np.power(self.reduce(powers, 0, np.add), 1 / self.p).astype(powers.dtype)]


class GlobalPool(Op):
    """A reduction of all spatial axes to 1."""

    commutes: ClassVar[Action] = Action.COUPLED
    """With which actions on channels."""

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if x.rank < 3:
            raise ValueError(f"{x} has no spatial axes")
        return [TensorType(x.dtype, (*x.shape[:2], *(1 for _ in x.shape[2:])))]

    def couple(self, relations: Relations, node: Node) -> None:
        for k, axis in enumerate(relations.axes(node.operands[0])):
            if k < 2:
                relations.same(axis, relations.axis(node.output, k), self.commutes)
            else:
                self.over(relations, node, axis)

    def over(self, relations: Relations, node: Node, axis: Axis) -> None:
        """State what becomes of a spatial axis."""
        relations.pin(axis, "spatial position", ~Action.PERMUTE)


class GlobalAveragePool(GlobalPool):
    """Mean over all spatial axes, summed in float64."""

    commutes = Action.ALL

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        mean = np.mean(x, tuple(range(2, x.ndim)), keepdims=True, dtype=np.float64)
        return [mean.astype(x.dtype)]

    def over(self, relations: Relations, node: Node, axis: Axis) -> None:
        relations.contract(node, 0, axis)


class GlobalMaxPool(GlobalPool):
    """Greatest element over all spatial axes."""

    commutes = Action.COUPLED | Action.SCALE | Action.SHIFT

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        return [np.max(x, tuple(range(2, x.ndim)), keepdims=True)]
