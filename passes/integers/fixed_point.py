"""Integer multipliers: the numbers that make sums of several scaled terms exact.

All follow DESIGN "Integer semantics": a common shift, round half up, no float in the sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.types import Array

ROOM = 2.0**30
"""Bound of every partial sum; int32 holds twice that."""


@dataclass(frozen=True)
class FixedSum:
    """``(sum_i q_i * multipliers[i] + constant) >> shift``."""

    multipliers: tuple[int, ...]
    constant: int
    shift: int


def fixed_sum(
    ratios: Sequence[float], zeros: Sequence[int], tops: Sequence[int], out_zero: int
) -> FixedSum:
    """Multipliers for ``sum_i ratio_i * (q_i - zero_i) + out_zero``, as precise as int32 allows."""
    reach = sum(abs(r) * 2 * t for r, t in zip(ratios, tops, strict=True)) + out_zero + 1
    shift = int(np.clip(np.floor(np.log2(ROOM / reach)), 0, 24))
    multipliers = tuple(round(r * 2.0**shift) for r in ratios)
    constant = (out_zero << shift) - sum(m * z for m, z in zip(multipliers, zeros, strict=True))
    return FixedSum(multipliers, constant + ((1 << shift) >> 1), shift)


def residual_shift(reach: float, ratio: float, top: int, out_zero: int) -> int:
    """Fraction bits of a fused residual sum: ``reach`` bounds the accumulator in output steps."""
    total = reach + abs(ratio) * 2 * top + out_zero + 1
    return int(np.clip(np.floor(np.log2(ROOM / total)), 0, 20))


def mean_multipliers(
    ratio: float, counts: Sequence[int]
) -> tuple[tuple[tuple[int, int], ...], int]:
    """``((count, multiplier), ...)`` and shift for ``ratio * sum / count``, to 30 bits."""
    shift = int(np.clip(30 - np.ceil(np.log2(ratio / min(counts))), 0, 44))
    return tuple((n, round(ratio / n * 2.0**shift)) for n in sorted(set(counts))), shift


def fixed_shares(shares: Array, bits: int) -> Array:
    """int32 numbers near ``shares * 2**bits`` whose rows sum to exactly ``2**bits``."""
    whole = np.rint(shares * 2.0**bits).astype(np.int32)
    rows = np.arange(len(whole))
    whole[rows, shares.argmax(1)] += 2**bits - whole.sum(1, dtype=np.int32)
    return whole


def exp_tables(scale: float) -> tuple[Array, Array]:
    """uint32 tables of ``exp(-scale * 256 * i)`` and ``exp(-scale * i)`` in units of ``2**-31``."""
    steps = np.arange(256, dtype=np.float64)
    high = np.rint(np.exp(-scale * 256 * steps) * 2.0**31)
    low = np.rint(np.exp(-scale * steps) * 2.0**31)
    return high.astype(np.uint32), low.astype(np.uint32)
