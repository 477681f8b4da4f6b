"""``repq``: codes per channel, said by one scale and one zero point for the whole tensor.

Every channel gets a scale ``s`` and a zero point ``z`` of its own; ``S`` is the mean of the scales
and ``Z`` the mean of the zero points, rounded first, so that every shift is a whole number of
steps and not one code changes::

    (x + s (z - Z)) / (s / S) / S + Z  =  x / s + z

Ranges per channel are clipped where that errs least.  What cannot be shifted has ``z = Z`` and
symmetric ranges.

Sources: Li et al., "RepQ-ViT", 2023, section 3.2; "RepQuant", 2024, section 4.2 (clipping both
ends).  That ``Z`` must be rounded is ours: the published code averages and does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...ir.types import Array
from .amounts import REACH, Amounts
from .site import Site

CUTS = np.linspace(0.0, 0.8, 17)
"""Shares of a channel's range that are cut off at one end or at both."""


@dataclass(frozen=True)
class PerChannel:
    """A step and a whole zero point per channel; float64 ``[channels]``."""

    step: Array
    zero: Array

    @property
    def common(self) -> tuple[float, float]:
        """The step and the zero point of the whole tensor."""
        return float(self.step.mean()), float(np.rint(self.zero.mean()))

    @property
    def amounts(self) -> Amounts:
        """What turns codes per channel into those of the whole tensor."""
        step, zero = self.common
        return Amounts(self.step / step, self.step * (zero - self.zero))


def solve(site: Site) -> Amounts:
    """The amounts that make codes per channel codes per tensor."""
    low, high = spans(site)
    return per_channel(low, high, site.samples, site.precision.top, site.shifts).amounts


def spans(site: Site) -> tuple[Array, Array]:
    """The range of every channel; symmetric where nothing can be shifted."""
    if site.shifts:
        return site.low, site.high
    high = np.maximum(site.high, -site.low)
    return -high, high


def per_channel(low: Array, high: Array, x: Array, top: int, shifts: bool) -> PerChannel:
    """Scales and zero points for the ranges of least squared error of ``x [channels, P]``.

    Channels that do not vary get a step that is small, and no zero point of their own.
    """
    best = np.full(len(low), np.inf)
    step, zero = np.ones(len(low)), np.zeros(len(low))
    for s, z in clipped(low, high, top, shifts):
        codes = np.clip(np.rint(x / s[:, None]) + z[:, None], 0, top)
        error = np.square((codes - z[:, None]) * s[:, None] - x).sum(1)
        better = error < best
        best = np.where(better, error, best)
        step, zero = np.where(better, s, step), np.where(better, z, zero)
    return PerChannel(step, zero if shifts else np.zeros(len(low)))


def clipped(low: Array, high: Array, top: int, shifts: bool) -> Iterator[tuple[Array, Array]]:
    """Scales and zero points per channel, for all pairs of ``CUTS`` at both ends of the ranges."""
    wide = np.maximum(high - low, (high - low).max(initial=0.0) / REACH)
    wide = np.where(wide > 0, wide, 1.0)
    ends = (high + low - wide) / 2, (high + low + wide) / 2
    pairs = [(a, b) for a in CUTS for b in CUTS if (a + b <= CUTS[-1] if shifts else a == b < 0.5)]
    for a, b in pairs:
        first, last = ends[0] + a * wide, ends[1] - b * wide
        step = (last - first) / top
        yield step, np.rint(-first / step)
