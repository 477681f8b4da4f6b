"""How far two tensors are apart, once what exact passes do to channels is set aside.

Pruning, rotation and equalized channels give a network other tensors inside, though it computes
the same.  So a tensor is compared as it is, with a factor and an offset for every channel, or by
the linear map of its channels that fits best: the least that the passes leave to ask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..ir.types import Array
from ..passes.fitting.gram import Gram

EQUAL, SAME, SCALED, MIXED = "equal", "as it is", "scaled", "mixed"

FACTOR = 4.0
"""A freer comparison is taken where it leaves so many times less than a stricter one."""

MASK = 1e5
"""Of the first quartile of magnitudes: what lies beyond masks an attention, and is no number."""

LEAST_DB = 10.0
"""What agrees less may be mixed, if there were too few positions to tell."""

SPARE = 4
"""Positions for every coefficient of a map, less of which fit anything."""


@dataclass
class Alignment:
    """A tensor of one network against that of another, feed after feed.

    ``scaled``, ``mixed``: which freedoms the passes in between had.
    """

    scaled: bool
    mixed: bool
    signal: float = 0.0
    apart: float | None = 0.0
    _scaled: dict[tuple[int, ...], _Scaled] = field(default_factory=dict)
    _mixed: dict[int, _Mixed] = field(default_factory=dict)

    def add(self, ours: Array, real: Array) -> None:
        """Count one feed; tensors have one rank, and differ in one axis at most."""
        x, y = ours.astype(np.float64), real.astype(np.float64)
        known = _known(y)
        self.signal += float(np.square(y[known]).sum())
        same = x.shape == y.shape
        if same and self.apart is not None:
            self.apart += float(np.square(x[known] - y[known]).sum())
        else:
            self.apart = None
        if not known.all():
            return
        if self.scaled and same:
            for axes in _channel_axes(x.ndim):
                self._scaled.setdefault(axes, _Scaled(axes)).add(x, y)
        if self.mixed:
            for axis in _mixing_axes(x, y):
                self._mixed.setdefault(axis, _Mixed(axis)).add(x, y)

    @property
    def best(self) -> tuple[str, float | None]:
        """How they compare, and SQNR in dB; None where too little was seen to tell."""
        found = [(SAME, self.apart)]
        found += [(SCALED, _least([s.rest for s in self._scaled.values()]))]
        found += [(MIXED, _least([m.rest for m in self._mixed.values()]))]
        how, rest = SAME, None
        for name, left in found:
            if left is not None and (rest is None or left * FACTOR < rest):
                how, rest = name, left
        if rest == 0.0:
            return EQUAL if how == SAME else how, math.inf
        db = None if rest is None else float(10 * np.log10(max(self.signal, 1e-300) / rest))
        unsettled = any(m.rest is None for m in self._mixed.values())
        if db is None or (unsettled and db < LEAST_DB):
            return MIXED if self.mixed else SAME, None
        return how, db


class _Scaled:
    """What is left of a tensor after the best factor and offset of every channel."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes, self.count = axes, 0
        self.sums: Array | None = None

    def add(self, x: Array, y: Array) -> None:
        """Count one feed."""
        others = tuple(i for i in range(x.ndim) if i not in self.axes)
        own = np.stack([a.sum(others) for a in (x, y, x * x, y * y, x * y)])
        self.sums = own if self.sums is None else self.sums + own
        self.count += x.size // max(own[0].size, 1)

    @property
    def rest(self) -> float | None:
        """Energy; None if there were too few positions."""
        if self.sums is None or self.count < 2 * SPARE:
            return None
        x, y, xx, yy, xy = self.sums
        n = self.count
        xx, yy, xy = xx - x * x / n, yy - y * y / n, xy - x * y / n
        told = np.square(xy) / np.maximum(xx, 1e-30 + 1e-12 * np.abs(x * x) / n)
        return float(np.maximum(yy - told, 0.0).sum()) * n / (n - 2)


class _Mixed:
    """What is left of a tensor after the best linear map of the other one's channels."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.gram: Gram | None = None
        self.energy = 0.0

    def add(self, x: Array, y: Array) -> None:
        """Count one feed."""
        rows = [np.moveaxis(a, self.axis, 0).reshape(1, a.shape[self.axis], -1) for a in (x, y)]
        if self.gram is None:
            self.gram = Gram(1, rows[0].shape[1], rows[1].shape[1])
        self.gram.add(*rows)
        self.energy += float(np.square(rows[1]).sum())

    @property
    def rest(self) -> float | None:
        """Energy; None if there were too few positions."""
        if self.gram is None:
            return None
        n, spread, cross = self.gram.count, self.gram.covariance[0], self.gram.cross_covariance[0]
        width = len(spread)
        if n < SPARE * (width + 1):
            return None
        total = self.energy / n - float(np.square(self.gram.target).sum())
        spread[np.arange(width), np.arange(width)] += 1e-12 * max(np.trace(spread), 1e-30)
        told = float((np.linalg.solve(spread, cross.T) * cross.T).sum())
        return max(total - told, 0.0) * n * n / (n - width - 1)


def _known(real: Array) -> Array:
    size = np.abs(real)
    counted = size[np.isfinite(size) & (size > 0)]
    bound = MASK * np.quantile(counted, 0.25) if counted.size else np.inf
    return np.asarray(size <= bound)


def _channel_axes(rank: int) -> list[tuple[int, ...]]:
    """Where channels may lie: behind the batch, last, or both (heads and theirs)."""
    last = rank - 1
    return [(1,), (last,), (1, last)] if rank > 3 else [(1,), (last,)] if rank == 3 else [(last,)]


def _mixing_axes(x: Array, y: Array) -> list[int]:
    differing = [i for i, (a, b) in enumerate(zip(x.shape, y.shape, strict=True)) if a != b]
    likely = {1, x.ndim - 1} if x.ndim > 1 else {0}
    return [i for i in sorted(likely) if differing in ([], [i])]


def _least(found: list[float | None]) -> float | None:
    known = [x for x in found if x is not None]
    return min(known) if known else None
