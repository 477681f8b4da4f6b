"""Ops that choose, order and place elements by what they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Array, Shape, TensorType
from .base import Op, Operands, given, normal_axis, operand, optional
from .control import symbol


@dataclass(frozen=True)
class Compress(Op):
    """The slices of ``x`` along ``axis`` (None: its elements) where a bool vector holds."""

    axis: int | None = None

    def infer(self, ins: Operands) -> list[TensorType]:
        x, condition = operand(ins, 0), operand(ins, 1)
        count = symbol("compress", f"{x.name}.{condition.name}")
        if self.axis is None:
            return [TensorType(x.type.dtype, (count,))]
        a = normal_axis(self.axis, x.type.rank)
        return [TensorType(x.type.dtype, (*x.type.shape[:a], count, *x.type.shape[a + 1 :]))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.compress(given(ins, 1).astype(bool), given(ins), self.axis)]


@dataclass(frozen=True)
class Unique(Op):
    """The different elements (slices along ``axis``), ``sorted`` or in order of appearance.

    Results: these, the index of each one's first appearance, for each element the index of its
    like, and how often each appears; all indices int64.
    """

    axis: int | None = None
    sorted: bool = True

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0)
        count = symbol("unique", x.name)
        shape: Shape = (count,)
        whole = symbol("unique", x.name, 0)
        if self.axis is not None:
            a = normal_axis(self.axis, x.type.rank)
            shape = (*x.type.shape[:a], count, *x.type.shape[a + 1 :])
        every = x.type.shape[self.axis] if self.axis is not None else whole
        return [TensorType(x.type.dtype, shape)] + [
            TensorType("int64", (d,)) for d in (count, every, count)
        ]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        y, first, inverse, counts = np.unique(x, True, True, True, axis=self.axis)
        inverse = inverse.reshape(-1)
        if not self.sorted:
            order = np.argsort(first)
            rank = np.argsort(order)
            y = np.take(y, order, 0 if self.axis is None else self.axis)
            first, counts, inverse = first[order], counts[order], rank[inverse]
        return [y, *(a.astype(np.int64) for a in (first, inverse, counts))]


@dataclass(frozen=True)
class ReverseSequence(Op):
    """``x`` with the first ``lengths[b]`` steps of each sequence turned around."""

    time_axis: int = 0
    batch_axis: int = 1

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if {normal_axis(self.time_axis, x.rank), normal_axis(self.batch_axis, x.rank)} != {0, 1}:
            raise ValueError("time and batch are axes 0 and 1")
        return [TensorType(x.dtype, x.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        y, lengths = given(ins).copy(), given(ins, 1)
        moved = np.moveaxis(y, (self.batch_axis, self.time_axis), (0, 1))
        for sequence, n in zip(moved, lengths.tolist(), strict=True):
            sequence[:n] = sequence[:n][::-1].copy()
        return [y]


@dataclass(frozen=True)
class EyeLike(Op):
    """Ones on diagonal ``k`` of a matrix of the operand's shape."""

    dtype: str = "float32"
    k: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if x.rank != 2:
            raise ValueError(f"{x} is no matrix")
        return [TensorType(self.dtype, x.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        rows, columns = given(ins).shape
        return [np.eye(rows, columns, self.k, dtype=self.dtype)]


@dataclass(frozen=True)
class TensorScatter(Op):
    """A cache with ``update`` written along ``axis``, from the index of each sample on.

    Operands: cache ``[batch, ..., length, ...]``, update, int64 ``[batch]``? (0 if absent).
    ``mode`` ``circular`` goes on at the beginning.
    """

    axis: int = -2
    mode: str = "linear"

    def infer(self, ins: Operands) -> list[TensorType]:
        x, update = operand(ins, 0).type, operand(ins, 1).type
        if x.rank != update.rank or x.dtype != update.dtype or not normal_axis(self.axis, x.rank):
            raise ValueError(f"cannot write {update} into {x} along axis {self.axis}")
        return [TensorType(x.dtype, x.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        y, update, starts = given(ins).copy(), given(ins, 1), optional(ins, 2)
        first = np.zeros(len(y), np.int64) if starts is None else starts
        axis = normal_axis(self.axis, y.ndim)
        source, target = np.moveaxis(update, axis, 1), np.moveaxis(y, axis, 1)
        for sample, start in enumerate(first.tolist()):
            places = start + np.arange(source.shape[1])
            if self.mode == "circular":
                places %= target.shape[1]
            target[sample, places] = source[sample]
        return [y]


@dataclass(frozen=True)
class NonMaxSuppression(Op):
    """Boxes of greatest score, without those that overlap a better one by more than the threshold.

    Operands: boxes ``[batch, N, 4]`` (two corners; with ``center_point_box`` centre and size),
    scores ``[batch, classes, N]``, most boxes per class (0 if absent), overlap threshold (0), score
    threshold?.  Result: int64 ``[count, 3]``, batch, class and box.
    """

    center_point_box: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        boxes, scores = operand(ins, 0), operand(ins, 1)
        if boxes.type.rank != 3 or scores.type.rank != 3:
            raise ValueError(f"{boxes!r} and {scores!r} are not boxes and scores")
        return [TensorType("int64", (symbol("boxes", f"{boxes.name}.{scores.name}"), 3))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        boxes, scores = self._corners(given(ins).astype(np.float64)), given(ins, 1)
        most, overlap, least = (
            None if a is None else a.reshape(-1)[0].item()
            for a in (optional(ins, i) for i in (2, 3, 4))
        )
        found = [
            (b, c, i)
            for b in range(scores.shape[0])
            for c in range(scores.shape[1])
            for i in _best(boxes[b], scores[b, c], int(most or 0), overlap or 0.0, least)
        ]
        return [np.array(found, np.int64).reshape(-1, 3)]

    def _corners(self, boxes: Array) -> Array:
        """Least and greatest coordinates."""
        a, b = boxes[..., :2], boxes[..., 2:]
        if self.center_point_box:
            a, b = a - b / 2, a + b / 2
        return np.concatenate([np.minimum(a, b), np.maximum(a, b)], -1)


def _best(boxes: Array, scores: Array, most: int, overlap: float, least: float | None) -> list[int]:
    order = [int(i) for i in np.argsort(-scores, kind="stable")]
    kept: list[int] = []
    for i in order:
        if len(kept) == most:
            break
        if (least is None or scores[i] > least) and all(
            _overlap(boxes[i], boxes[k]) <= overlap for k in kept
        ):
            kept.append(i)
    return kept


def _overlap(a: Array, b: Array) -> float:
    """Intersection over union."""
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    common = float(np.prod(sides))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common
    return common / union if union > 0 else 0.0
