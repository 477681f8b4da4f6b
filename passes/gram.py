"""First and second moments of vectors, and of what they are to predict, from a stream of blocks.

Blocks are multiplied in their own precision, a few hundred vectors at a time, and summed in
float64; memory does not depend on how many there are.
"""

from __future__ import annotations

import numpy as np

from ..ir.types import Array

TOGETHER = 512
"""Vectors multiplied at once: the product costs less than adding it to the sum so far."""


class Gram:
    """Moments of ``x``, ``[groups, K]``, and optionally of targets ``y``, ``[groups, outputs]``."""

    def __init__(self, groups: int, width: int, outputs: int = 0) -> None:
        self._count = self._waiting = 0
        self._held: list[tuple[Array, Array | None]] = []
        self._x, self._y = np.zeros((groups, width)), np.zeros((groups, outputs))
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
        x = np.concatenate([held[0] for held in self._held], 2)
        turned = x.transpose(0, 2, 1)
        self._x += x.sum(2, dtype=np.float64)
        self._xx += x @ turned
        targets = [held[1] for held in self._held if held[1] is not None]
        if targets:
            y = np.concatenate(targets, 2)
            self._y += y.sum(2, dtype=np.float64)
            self._yx += y @ turned
        self._count += self._waiting
        self._held, self._waiting = [], 0

    def __add__(self, other: Gram) -> Gram:
        """The moments of what both have counted."""
        groups, outputs, width = self._yx.shape
        total = Gram(groups, width, outputs)
        total._count = self.count + other.count
        for name in ("_x", "_y", "_xx", "_yx"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    @property
    def count(self) -> int:
        """Vectors counted."""
        self._multiply()
        return self._count

    @property
    def mean(self) -> Array:
        """Of ``x``, float64 ``[groups, K]``."""
        return np.asarray(self._x / max(self.count, 1))

    @property
    def target(self) -> Array:
        """The mean of ``y``, float64 ``[groups, outputs]``."""
        return np.asarray(self._y / max(self.count, 1))

    @property
    def second(self) -> Array:
        """``x x^T`` about zero, ``[groups, K, K]``."""
        return np.asarray(self._xx / max(self.count, 1))

    @property
    def cross(self) -> Array:
        """``y x^T`` about zero, ``[groups, outputs, K]``."""
        return np.asarray(self._yx / max(self.count, 1))

    @property
    def covariance(self) -> Array:
        """``x x^T`` about the mean."""
        mean = self.mean
        return np.asarray(self.second - mean[:, :, None] * mean[:, None, :])

    @property
    def cross_covariance(self) -> Array:
        """``y x^T`` about the means."""
        return np.asarray(self.cross - self.target[:, :, None] * self.mean[:, None, :])
