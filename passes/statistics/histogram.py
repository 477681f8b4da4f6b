"""A streaming histogram with a range that grows by doubling: memory independent of the samples."""

from dataclasses import dataclass, field

import numpy as np

from ...ir.types import Array

BINS = 4096
TINY = 1e-30
"""Magnitudes up to this count as zero."""

COUNTED = 1 << 16
"""Of larger arrays every n-th element (n odd) is counted, at least this many; extremes see all."""


@dataclass
class Histogram:
    """Counts over ``[-reach, reach)``; ``reach`` is a power of two: growing merges bins exactly."""

    reach: float = 0.0
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    least: float = np.inf
    greatest: float = -np.inf

    def add(self, x: Array) -> None:
        """Count (a part of) the elements of a float array.  ``ValueError`` if one is not finite."""
        if x.size == 0:
            return
        low, high = float(x.min()), float(x.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise ValueError("values that are not finite")
        self.least, self.greatest = min(self.least, low), max(self.greatest, high)
        self._grow(max(-low, high))
        part = x.ravel()[:: (x.size // COUNTED) | 1]
        if self.reach == 0.0:
            self.counts[BINS // 2] += part.size
            return
        index = (part * np.float32(BINS / 2 / self.reach) + np.float32(BINS / 2)).astype(np.int32)
        np.clip(index, 0, BINS - 1, out=index)
        self.counts += np.bincount(index, minlength=BINS)

    @property
    def centers(self) -> Array:
        """The middle of every bin."""
        step = 2 * self.reach / BINS
        return (np.arange(BINS) + 0.5) * step - self.reach

    def _grow(self, magnitude: float) -> None:
        if magnitude <= max(self.reach, TINY):
            return
        reach = float(2.0 ** np.ceil(np.log2(magnitude)))
        if self.reach:
            for _ in range(round(np.log2(reach / self.reach))):
                half = self.counts.reshape(-1, 2).sum(1)
                self.counts = np.zeros(BINS, np.int64)
                self.counts[BINS // 4 : 3 * BINS // 4] = half
        self.reach = reach
