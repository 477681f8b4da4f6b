"""What ops say of the axes of their operands and results: four relations and one mark.

``same``
    two axes are the same channels.
``index``
    element ``j`` of the small axis is element ``indices[j]`` of the big one (concat, split, slice,
    pad, gather).
``product``
    two lists of axes are equal when flattened (reshape).
``pin``
    channels of an axis cannot be deleted, and why; they may be permuted where only their set
    counts (the axis of a softmax), not where their position has a meaning.
``contract``
    (the mark) a node sums over an axis of one of its operands, and zeros there are neutral.

A dimension that is not known counts as its known factor (``2*batch`` as 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..graph import Value
from ..ops.dims import factors
from ..types import Array, TensorType

if TYPE_CHECKING:
    from ..graph import Node

Axis = tuple[Value, int]
"""An axis of a value; equal only for the same value."""


@dataclass(frozen=True)
class Index:
    """Element ``j`` of ``small`` is element ``indices[j]`` of ``big``."""

    big: Axis
    indices: Array
    small: Axis


@dataclass(frozen=True)
class Product:
    """Both lists of axes, flattened in order, are the same elements."""

    left: tuple[Axis, ...]
    right: tuple[Axis, ...]


@dataclass(frozen=True)
class Pin:
    """``axis`` cannot lose channels, for the reason ``why``."""

    axis: Axis
    why: str
    permutable: bool = False


@dataclass(frozen=True)
class Contraction:
    """``node`` sums over ``axis`` of its operand ``operand``."""

    node: Node
    operand: int
    axis: Axis


class Relations:
    """Collects what the nodes of a graph state; axes of length 1 are ignored."""

    def __init__(self) -> None:
        self.sizes: dict[Axis, int] = {}
        self.sames: list[tuple[Axis, Axis]] = []
        self.indices: list[Index] = []
        self.products: list[Product] = []
        self.pins: list[Pin] = []
        self.contractions: list[Contraction] = []

    # -- axes --------------------------------------------------------------------------------

    def axis(self, value: Value, k: int) -> Axis:
        """Axis ``k`` of a value; negative numbers count from the end."""
        shape = value.type.shape
        found = (value, k % len(shape))
        self.sizes[found] = factors([shape[found[1]]])[0]
        return found

    def axes(self, value: Value) -> list[Axis]:
        """All axes of a value."""
        return [self.axis(value, k) for k in range(value.type.rank)]

    def virtual(self, name: str, size: int) -> Axis:
        """An axis that no tensor has: the groups of a grouped convolution, the copies of a tile."""
        found = (Value(f"#{name}", TensorType("float32", (size,))), 0)
        self.sizes[found] = size
        return found

    # -- statements --------------------------------------------------------------------------

    def same(self, a: Axis, b: Axis) -> None:
        """State that two axes are the same channels; nothing if one of them is broadcast."""
        if self.sizes[a] == self.sizes[b] > 1:
            self.sames.append((a, b))

    def aligned(self, left: Sequence[Axis], right: Sequence[Axis]) -> None:
        """State ``same`` for pairs, from the last axis on (as shapes broadcast)."""
        for a, b in zip(reversed(left), reversed(right), strict=False):
            self.same(a, b)

    def broadcast(self, value: Value, out: Value) -> None:
        """State that ``out`` has the channels of ``value``, which broadcasts to it."""
        self.aligned(self.axes(value), self.axes(out))

    def elementwise(self, node: Node) -> None:
        """State that all operands broadcast to the result."""
        for value in node.operands:
            self.broadcast(value, node.output)

    def spatial(self, *values: Value) -> None:
        """Pin the axes of maps from the third on."""
        for value in values:
            for axis in self.axes(value)[2:]:
                self.pin(axis, "spatial position")

    def parts(self, whole: Value, parts: Sequence[Value], axis: int) -> None:
        """State that ``parts`` lie one after another along ``axis`` of ``whole``."""
        start = 0
        for part in parts:
            for k, (a, b) in enumerate(zip(self.axes(whole), self.axes(part), strict=True)):
                if k == axis % whole.type.rank:
                    self.index(a, np.arange(start, start + self.sizes[b]), b)
                    start += self.sizes[b]
                else:
                    self.same(a, b)

    def blocks(self, deep: Value, wide: Value, size: int, *, first: bool) -> None:
        """State that channels of ``deep`` are those of ``wide`` in each pixel of a block."""
        pixels, channels = self.virtual("pixels", size * size), self.axis(wide, 1)
        self.pin(pixels, "pixel of a block")
        self.product([self.axis(deep, 1)], [pixels, channels] if first else [channels, pixels])
        self.same(self.axis(deep, 0), self.axis(wide, 0))
        self.spatial(deep, wide)

    def index(self, big: Axis, indices: Array, small: Axis) -> None:
        """State that ``small`` holds the elements ``indices`` of ``big``."""
        whole = np.arange(self.sizes[big])
        if len(indices) == len(whole) and np.array_equal(indices, whole):
            self.same(big, small)
        elif self.sizes[big] > 1 or self.sizes[small] > 1:
            self.indices.append(Index(big, np.asarray(indices, np.int64), small))

    def product(self, left: Sequence[Axis], right: Sequence[Axis]) -> None:
        """State that two lists of axes flatten to the same elements.

        The lists are cut into the shortest runs of equal size; where sizes do not fit (symbols),
        all axes of the rest are pinned.
        """
        a, b = ([x for x in side if self.sizes[x] > 1] for side in (left, right))
        while a or b:
            run = self._run(a, b)
            if run is None:
                for axis in (*a, *b):
                    self.pin(axis, "reshaped by sizes that are not known")
                return
            i, j = run
            if i == j == 1:
                self.same(a[0], b[0])
            else:
                self.products.append(Product(tuple(a[:i]), tuple(b[:j])))
            a, b = a[i:], b[j:]

    def _run(self, a: list[Axis], b: list[Axis]) -> tuple[int, int] | None:
        """How many axes of each list make up the same size; None if the lists do not match."""
        i, j, p, q = 0, 0, 1, 1
        while True:
            if i and p == q:
                return i, j
            if p <= q and i < len(a):
                p, i = p * self.sizes[a[i]], i + 1
            elif p >= q and j < len(b):
                q, j = q * self.sizes[b[j]], j + 1
            else:
                return None

    def pin(self, axis: Axis, why: str, *, permutable: bool = False) -> None:
        """State that no channel of ``axis`` can be deleted."""
        if self.sizes[axis] > 1:
            self.pins.append(Pin(axis, why, permutable))

    def pin_all(self, node: Node, why: str) -> None:
        """Pin all axes of a node that is not understood."""
        for value in (*node.operands, *node.outputs):
            for axis in self.axes(value):
                self.pin(axis, why)

    def contract(self, node: Node, operand: int, axis: Axis) -> None:
        """Mark that ``node`` sums over ``axis`` of its operand number ``operand``."""
        if self.sizes[axis] > 1:
            self.contractions.append(Contraction(node, operand, axis))
