"""First and second moments of vectors, and of what they are to predict, from a stream of blocks.

Blocks are multiplied in their own precision, a few hundred vectors at a time, and summed in
float64; memory does not depend on how many there are.
"""

from __future__ import annotations

import numpy as np

from ...ir.types import Array

TOGETHER = 512
"""Vectors multiplied at once: the product costs less than adding it to the sum so far."""

RELATIVE = 1e-6
"""Of the mean variance: what is left of an input without the others and counts as nothing."""


class Gram:
    """Moments of ``x``, ``[groups, K]``, and optionally of targets ``y``, ``[groups, outputs]``."""

    def __init__(self, groups: int, width: int, outputs: int = 0) -> None:
        self._count = self._waiting = 0
        self._held: list[tuple[Array, Array | None]] = []
        self._x, self._y = _Sums(groups, width), _Sums(groups, outputs)
        self._xx = np.zeros((groups, width, width))
        self._yx = np.zeros((groups, outputs, width))

    def add(self, x: Array, y: Array | None = None) -> None:
        """Count vectors ``x [groups, K, P]`` and their targets ``y [groups, outputs, P]``."""
        self._held.append((x, y))
        self._waiting += x.shape[2]
        if self._waiting >= TOGETHER:
            self._multiply()

    def _multiply(self) -> None:
        if not self._held:
            return
        x = self._x.add(np.concatenate([held[0] for held in self._held], 2))
        turned = x.transpose(0, 2, 1)
        self._xx += x @ turned
        targets = [held[1] for held in self._held if held[1] is not None]
        if targets:
            self._yx += self._y.add(np.concatenate(targets, 2)) @ turned
        self._count += self._waiting
        self._held, self._waiting = [], 0

    def __add__(self, other: Gram) -> Gram:
        """The moments of what both have counted."""
        groups, outputs, width = self._yx.shape
        total = Gram(groups, width, outputs)
        total._count = self.count + other.count
        for part in (self, other):
            n = part.count
            total._x.total += n * part.mean
            total._y.total += n * part.target
            total._xx += n * part.second
            total._yx += n * part.cross
        return total

    @property
    def count(self) -> int:
        """Vectors counted."""
        self._multiply()
        return self._count

    @property
    def mean(self) -> Array:
        """Of ``x``, float64 ``[groups, K]``."""
        return self._x.mean(self.count)

    @property
    def target(self) -> Array:
        """The mean of ``y``, float64 ``[groups, outputs]``."""
        return self._y.mean(self.count)

    @property
    def second(self) -> Array:
        """``x x^T`` about zero, ``[groups, K, K]``."""
        return np.asarray(self.covariance + _outer(self.mean, self.mean))

    @property
    def cross(self) -> Array:
        """``y x^T`` about zero, ``[groups, outputs, K]``."""
        return np.asarray(self.cross_covariance + _outer(self.target, self.mean))

    @property
    def covariance(self) -> Array:
        """``x x^T`` about the mean."""
        n = max(self.count, 1)
        return np.asarray(self._xx / n - _outer(self._x.total / n, self._x.total / n))

    @property
    def singular(self) -> bool:
        """Whether some inputs follow from others, as far as was seen: then only damping helps."""
        spread = self.covariance
        diagonal = np.einsum("gkk->gk", spread)
        level = np.maximum(diagonal.mean(1, keepdims=True), 1e-30)
        diagonal += RELATIVE / 1000 * level
        try:
            pivots = np.square(np.einsum("gkk->gk", np.linalg.cholesky(spread)))
        except np.linalg.LinAlgError:
            return True
        return bool((pivots < RELATIVE * level).any())

    @property
    def cross_covariance(self) -> Array:
        """``y x^T`` about the means."""
        n = max(self.count, 1)
        return np.asarray(self._yx / n - _outer(self._y.total / n, self._x.total / n))


class _Sums:
    """Sums of vectors ``[groups, width]`` about the mean of the first block.

    So inputs that hardly vary keep a covariance without negative eigenvalues.
    """

    def __init__(self, groups: int, width: int) -> None:
        self.origin, self.total = np.zeros((groups, width)), np.zeros((groups, width))
        self._begun = False

    def add(self, block: Array) -> Array:
        """Count a block ``[groups, width, P]``; what it is about the origin."""
        if not self._begun:
            first = block.mean(2, dtype=np.float64).astype(block.dtype)
            self.origin, self._begun = first.astype(np.float64), True
        about = block - self.origin[:, :, None].astype(block.dtype)
        self.total += about.sum(2, dtype=np.float64)
        return np.asarray(about)

    def mean(self, count: int) -> Array:
        """Of ``count`` vectors."""
        return np.asarray(self.origin + self.total / max(count, 1))


def _outer(a: Array, b: Array) -> Array:
    return np.asarray(a[:, :, None] * b[:, None, :])
