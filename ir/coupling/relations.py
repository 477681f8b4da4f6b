"""What ops say of the axes of their operands and results: five relations and one mark.

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
``balance``
    what axes are scaled (or shifted) by cancels out: a product takes the factors of both its
    operands, a contraction undoes on one what happens to the other.
``contract``
    (the mark) a node sums over an axis of one of its operands, and zeros there are neutral.

Relations hold ``under`` some actions: unless an op says more, only for deleting and permuting.  An
axis of which a node says nothing under an action that changes numbers is pinned for it.

A dimension that is not known counts as its known factor (``2*batch`` as 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..graph import Value
from ..ops.dims import factors
from ..types import Array, TensorType
from .action import Action

if TYPE_CHECKING:
    from ..graph import Node

Axis = tuple[Value, int]
"""An axis of a value; equal only for the same value."""

FLAT = -2
"""The number of the axis that the first two axes of a constant make up when they are flattened."""


def is_made_up(axis: Axis) -> bool:
    """Whether no tensor has the axis: it is virtual, or two axes in one."""
    return axis[1] == FLAT or axis[0].name.startswith("#")


@dataclass(frozen=True)
class Same:
    """Two axes are the same channels."""

    left: Axis
    right: Axis
    under: Action


@dataclass(frozen=True)
class Index:
    """Element ``j`` of ``small`` is element ``indices[j]`` of ``big``."""

    big: Axis
    indices: Array
    small: Axis
    under: Action


@dataclass(frozen=True)
class Product:
    """Both lists of axes, flattened in order, are the same elements."""

    left: tuple[Axis, ...]
    right: tuple[Axis, ...]
    under: Action


@dataclass(frozen=True)
class Balance:
    """What happens to the axes, times their signs, adds up to nothing (of factors: logarithms)."""

    terms: tuple[tuple[Axis, int], ...]
    under: Action


@dataclass(frozen=True)
class Pin:
    """The actions ``forbids`` cannot be done to ``axis``, for the reason ``why``."""

    axis: Axis
    why: str
    forbids: Action = Action.ALL


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
        self.sames: list[Same] = []
        self.indices: list[Index] = []
        self.products: list[Product] = []
        self.balances: list[Balance] = []
        self.pins: list[Pin] = []
        self.contractions: list[Contraction] = []
        self._spoken: dict[Axis, Action] = {}
        self._heard = Action.ALL

    def state(self, node: Node, heard: Action = Action.ALL) -> None:
        """Let a node speak of the actions that are ``heard``, and pin what it does not speak of."""
        self._spoken, self._heard = {}, heard
        node.op.couple(self, node)
        self._heard = Action.ALL
        for axis in (a for v in (*node.operands, *node.outputs) for a in self.axes(v)):
            silent = Action.VALUES & heard & ~self._spoken.get(axis, Action.COUPLED)
            if silent:
                self.pin(axis, f"op {node.op.name}", silent)

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

    def elements(self, weight: Value) -> Axis:
        """The elements of a constant's first two axes, as one axis of its own: number ``FLAT``."""
        found = (weight, FLAT)
        self.sizes[found] = weight.shape[0] * weight.shape[1]
        return found

    def virtual(self, name: str, size: int) -> Axis:
        """An axis that no tensor has: the groups of a grouped convolution, the copies of a tile."""
        found = (Value(f"#{name}", TensorType("float32", (size,))), 0)
        self.sizes[found] = size
        return found

    # -- statements --------------------------------------------------------------------------

    def same(self, a: Axis, b: Axis, under: Action = Action.COUPLED) -> None:
        """State that two axes are the same channels; nothing if one of them is broadcast."""
        if self.sizes[a] == self.sizes[b] > 1:
            self.sames.append(Same(a, b, under & self._heard))
            self.free(under, a, b)

    def free(self, under: Action, *axes: Axis) -> None:
        """State that the node itself makes up for whatever happens to ``axes`` under actions."""
        for axis in axes:
            self._spoken[axis] = self._spoken.get(axis, Action.COUPLED) | under

    def balance(self, under: Action, *terms: tuple[Axis, int]) -> None:
        """State that amounts along axes, times signs, cancel out; all or none are broadcast."""
        if all(self.sizes[axis] == self.sizes[terms[0][0]] > 1 for axis, _ in terms):
            self.balances.append(Balance(terms, under & self._heard))
            self.free(under, *(axis for axis, _ in terms))

    def dual(self, a: Axis, b: Axis) -> None:
        """State that a sum runs over ``a`` and ``b``: what scales one divides the other."""
        self.same(a, b, Action.COUPLED | Action.ROTATE)
        self.balance(Action.SCALE, (a, 1), (b, 1))

    def aligned(
        self, left: Sequence[Axis], right: Sequence[Axis], under: Action = Action.COUPLED
    ) -> None:
        """State ``same`` for pairs, from the last axis on (as shapes broadcast)."""
        for a, b in zip(reversed(left), reversed(right), strict=False):
            self.same(a, b, under)

    def broadcast(self, value: Value, out: Value, under: Action = Action.COUPLED) -> None:
        """State that ``out`` has the channels of ``value``, which broadcasts to it."""
        self.aligned(self.axes(value), self.axes(out), under)

    def elementwise(self, node: Node, under: Action = Action.COUPLED) -> None:
        """State that all operands broadcast to the result."""
        for value in node.operands:
            self.broadcast(value, node.output, under)

    def together(self, sides: Sequence[Sequence[Axis]], out: Sequence[Axis], under: Action) -> None:
        """State that ``out`` changes as all sides do, which therefore need to have the axis."""
        for axis, found in self._present(sides, out):
            present = [each for each in found if each is not None]
            if len(present) == len(found):
                for each in present:
                    self.same(each, axis, under)
            else:
                for each in (axis, *present):
                    self.pin(each, "an operand without the axis is added", under)

    def added(self, node: Node, *signs: int) -> None:
        """State that a result is shifted by what its operands are, times their signs."""
        sides = [self.axes(v) for v in node.operands]
        for axis, found in self._present(sides, self.axes(node.output)):
            self._combine(Action.SHIFT, axis, found, signs)

    def multiplied(self, sides: Sequence[Sequence[Axis]], out: Sequence[Axis], *signs: int) -> None:
        """State that ``out`` takes the factors of both sides (of a divisor, sign -1, undoes)."""
        for axis, found in self._present(sides, out):
            self._combine(Action.SCALE, axis, found, signs)
            alone = [(a, s) for a, s in zip(found, signs, strict=True) if a is not None]
            if len(alone) == 1 and alone[0][1] > 0:  # one factor for the whole axis
                self.same(alone[0][0], axis, Action.ROTATE)

    def _present(
        self, sides: Sequence[Sequence[Axis]], out: Sequence[Axis]
    ) -> Iterator[tuple[Axis, list[Axis | None]]]:
        """Each axis of ``out``, and that of each side; None where it is broadcast."""
        for k, axis in enumerate(reversed(out), 1):
            size = self.sizes[axis]
            if size > 1:
                aligned = [side[-k] if k <= len(side) else None for side in sides]
                yield axis, [a if a and self.sizes[a] == size else None for a in aligned]

    def _combine(
        self, under: Action, axis: Axis, found: Sequence[Axis | None], signs: Sequence[int]
    ) -> None:
        pairs = zip(found, signs, strict=True)
        self.balance(under, (axis, -1), *((a, sign) for a, sign in pairs if a is not None))

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
                    self.index(a, np.arange(start, start + self.sizes[b]), b, Action.ALL)
                    start += self.sizes[b]
                else:
                    self.same(a, b, Action.ALL)

    def blocks(self, deep: Value, wide: Value, size: int, *, first: bool) -> None:
        """State that channels of ``deep`` are those of ``wide`` in each pixel of a block."""
        pixels, channels = self.virtual("pixels", size * size), self.axis(wide, 1)
        self.pin(pixels, "pixel of a block")
        inner = [pixels, channels] if first else [channels, pixels]
        self.product([self.axis(deep, 1)], inner, Action.ALL)
        self.same(self.axis(deep, 0), self.axis(wide, 0), Action.ALL)
        self.spatial(deep, wide)

    def index(self, big: Axis, indices: Array, small: Axis, under: Action = Action.COUPLED) -> None:
        """State that ``small`` holds the elements ``indices`` of ``big``."""
        whole = np.arange(self.sizes[big])
        if len(indices) == len(whole) and np.array_equal(indices, whole):
            self.same(big, small, under)
        elif self.sizes[big] > 1 or self.sizes[small] > 1:
            heard = under & self._heard
            self.indices.append(Index(big, np.asarray(indices, np.int64), small, heard))
            self.free(under, big, small)

    def product(
        self, left: Sequence[Axis], right: Sequence[Axis], under: Action = Action.COUPLED
    ) -> None:
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
                self.same(a[0], b[0], under)
            else:
                self.products.append(Product(tuple(a[:i]), tuple(b[:j]), under & self._heard))
                self.free(under, *a[:i], *b[:j])
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

    def pin(self, axis: Axis, why: str, forbids: Action = Action.ALL) -> None:
        """State that some actions cannot be done to ``axis``."""
        if self.sizes[axis] > 1:
            self.pins.append(Pin(axis, why, forbids & self._heard))

    def pin_all(self, node: Node, why: str) -> None:
        """Pin all axes of a node that is not understood."""
        for value in (*node.operands, *node.outputs):
            for axis in self.axes(value):
                self.pin(axis, why)

    def contract(self, node: Node, operand: int, axis: Axis) -> None:
        """Mark that ``node`` sums over ``axis`` of its operand number ``operand``."""
        if self.sizes[axis] > 1:
            self.contractions.append(Contraction(node, operand, axis))
