"""From a histogram of a value to the range that its codes shall span.

Every method returns ``(low, high)`` with ``low <= 0 <= high``, so that zero has a code.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...ir.types import Array
from .histogram import Histogram

COARSE = np.geomspace(0.01, 1.0, 48)
FINE = np.linspace(0.85, 1.2, 36)


def min_max(h: Histogram, levels: int, share: float) -> tuple[float, float]:
    """The extremes."""
    return min(h.least, 0.0), max(h.greatest, 0.0)


def percentile(h: Histogram, levels: int, share: float) -> tuple[float, float]:
    """What leaves ``1 - share`` of the values outside, half on each side."""
    total = h.counts.cumsum()
    cut = (1.0 - share) / 2 * float(total[-1])
    low = h.centers[int(np.searchsorted(total, cut, "right"))]
    high = h.centers[min(int(np.searchsorted(total, float(total[-1]) - cut)), len(total) - 1)]
    return max(min(float(low), 0.0), min(h.least, 0.0)), min(
        max(float(high), 0.0), max(h.greatest, 0.0)
    )


def least_squares(h: Histogram, levels: int, share: float) -> tuple[float, float]:
    """The least mean squared error of ``levels`` uniform codes, ends searched in turn.

    The error is that of the codes themselves, so that spikes count as what they lose: the zeros
    after a ReLU nothing, the values at the upper end of a ReLU6 what clipping takes from them.
    """
    return _least_error(h, levels, 2)


def least_cubes(h: Histogram, levels: int, share: float) -> tuple[float, float]:
    """The least mean cubed magnitude of the error.

    Clipping errs in one direction and on the largest values, rounding in both: later layers
    average the latter out.  The cube weighs clipping more than the square does.
    """
    return _least_error(h, levels, 3)


def _least_error(h: Histogram, levels: int, power: int) -> tuple[float, float]:
    used = h.counts > 0
    x, n = h.centers[used], h.counts[used].astype(np.float64)

    def error(low: float, high: float) -> float:
        step = (high - low) / (levels - 1)
        if step <= 0:
            return np.inf
        zero = np.rint(-low / step)
        q = np.clip(np.rint(x / step) + zero, 0, levels - 1)
        return float((n * np.abs((q - zero) * step - x) ** power).sum())

    return _search(h, error)


def entropy(h: Histogram, levels: int, share: float) -> tuple[float, float]:
    """The least Kullback-Leibler divergence between the clipped values and their codes.

    Values outside are counted at the ends of the reference but not of the codes, so that clipping
    costs what it hides (Migacz, "8-bit inference with TensorRT", 2017, for both signs).  Zeros are
    left out: they have a code of their own, and after a ReLU they would outweigh all else.
    """
    counts = h.counts.astype(np.float64)
    middle = len(counts) // 2
    counts[middle] = min(counts[middle], max(counts[middle - 1], counts[middle + 1]))
    centers = h.centers

    def divergence(low: float, high: float) -> float:
        inside = np.flatnonzero((centers >= low) & (centers <= high))
        if len(inside) < 2:
            return np.inf
        first, last = int(inside[0]), int(inside[-1]) + 1
        own = counts[first:last]
        reference = own.copy()
        reference[0] += counts[:first].sum()
        reference[-1] += counts[last:].sum()
        bucket = (
            (np.arange(len(own)) * levels) // len(own) if len(own) > levels else np.arange(len(own))
        )
        sums = np.bincount(bucket, own, minlength=levels)
        filled = np.bincount(bucket, own > 0, minlength=levels)
        model = np.where(own > 0, (sums / np.maximum(filled, 1))[bucket], 0.0)
        if model.sum() == 0:
            return np.inf
        p, q = reference / reference.sum(), model / model.sum()
        seen = p > 0
        return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())

    return _search(h, divergence)


METHODS: dict[str, Callable[[Histogram, int, float], tuple[float, float]]] = {
    "min-max": min_max,
    "percentile": percentile,
    "mse": least_squares,
    "l3": least_cubes,
    "entropy": entropy,
}


WIDE = 8
"""Codes of more bits have so many levels that none needs to be clipped."""


@dataclass
class Range:
    """What calibration learned of a value, and from it the range that codes shall span."""

    histogram: Histogram
    method: str = "l3"
    share: float = 1.0
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)

    @property
    def least(self) -> float:
        """The least value seen."""
        return self.histogram.least

    @property
    def greatest(self) -> float:
        """The greatest value seen."""
        return self.histogram.greatest

    def span(self, bits: int) -> tuple[float, float]:
        """The range by ``method`` for codes of ``bits``; the extremes for more than 8."""
        if bits not in self.spans:
            method = METHODS[self.method if bits <= WIDE else "min-max"]
            self.spans[bits] = method(self.histogram, 2**bits, self.share)
        return self.spans[bits]


def _search(h: Histogram, cost: Callable[[float, float], float]) -> tuple[float, float]:
    """Shrink both ends together (coarsely), then each alone (finely): the range of least cost."""
    low, high = min_max(h, 0, 0.0)
    both = _best(COARSE, lambda a: cost(low * a, high * a))
    fine = np.minimum(np.unique(both * FINE), 1.0)
    top = _best(fine, lambda a: cost(low * both, high * a)) if high else both
    bottom = _best(fine, lambda a: cost(low * a, high * top)) if low else both
    return low * bottom, high * top


def _best(shares: Array, cost: Callable[[float], float]) -> float:
    """The share of least cost; the largest of equals."""
    return min((cost(float(a)), -float(a)) for a in shares)[1] * -1.0
