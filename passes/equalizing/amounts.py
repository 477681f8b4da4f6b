"""By what the channels of a site are divided, and what is taken off them first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.types import Array

REACH = 2.0**12
"""No factor is farther than this from the geometric mean of its site."""


@dataclass(frozen=True)
class Amounts:
    """A channel ``x`` becomes ``(x - shift) / scale``; both float64 ``[channels]``."""

    scale: Array
    shift: Array

    @staticmethod
    def none(channels: int) -> Amounts:
        """Nothing changes."""
        return Amounts(np.ones(channels), np.zeros(channels))

    @staticmethod
    def of(scale: Array, shift: Array | None = None) -> Amounts:
        """With factors made safe: those that are zero or not finite become the mean of others.

        The mean is geometric; none is farther from it than ``REACH``.
        """
        known = np.isfinite(scale) & (scale > 0)
        if not known.any():
            safe = np.ones(len(scale))
        else:
            mean = float(np.exp(np.log(scale[known]).mean()))
            filled = np.where(known, scale, mean)
            safe = np.clip(filled, mean / REACH, mean * REACH)
        return Amounts(safe, np.zeros(len(scale)) if shift is None else shift)
