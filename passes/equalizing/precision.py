"""What the passes behind ``equalize`` make of activations and weights, as its solvers see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.formats import parse
from ...ir.types import Array
from ..base import Pass
from ..encode import EncodeFormats
from ..quantize import QuantizeStatic

AS_FLOAT = 24
"""Bits of activations that err as little as float32 does."""

SHARES = np.geomspace(0.02, 1.0, 32)
FINE = np.linspace(0.8, 1.2, 21)
COUNTED = 1 << 13
"""Of larger arrays every n-th element (n odd) decides, at least this many."""


@dataclass(frozen=True)
class Precision:
    """Bits of activations (one scale per tensor, asymmetric) and of weights (one per output).

    ``biases``: whether a bias takes off the mean error of a layer that has none yet.  ``format``:
    what weights are encoded in, along what a layer sums over, instead of integers per output.
    """

    activations: int = 8
    weights: int = 8
    biases: bool = False
    format: str = ""

    @staticmethod
    def of(after: Sequence[Pass]) -> Precision:
        """The codes of the first ``quantize`` among the passes that follow, else of 8 bits.

        Of an ``encode`` only where it leaves activations float.
        """
        for one in after:
            if isinstance(one, EncodeFormats) and one.weights and not one.activations:
                bits = parse(one.weights).bits
                return Precision(AS_FLOAT, bits, format=one.weights)
            if isinstance(one, QuantizeStatic):
                return Precision(one.activation_bits, one.weight_bits, one.gives_biases)
        return Precision()

    @property
    def top(self) -> int:
        """The greatest code of an activation; the least is 0."""
        return int(2**self.activations - 1)

    @property
    def weight_top(self) -> int:
        """The greatest code of a weight; the least is its negative."""
        return int(2 ** (self.weights - 1) - 1)

    def rounded_weights(self, w: Array) -> Array:
        """Weights ``[groups, outputs, K]`` as the nearest multiples of each output's step."""
        if self.format:
            return parse(self.format).round(w)
        step = np.abs(w).max(2, keepdims=True, initial=0.0) / self.weight_top
        step[step == 0] = 1.0
        return np.asarray(np.rint(w / step) * step)

    def rounded(self, x: Array, span: tuple[float, float]) -> Array:
        """Activations as codes that span ``(low, high)``, which holds zero."""
        low, high = span
        step = (high - low) / self.top
        if step <= 0:
            return x
        zero = np.rint(-low / step)
        return np.asarray((np.clip(np.rint(x / step) + zero, 0, self.top) - zero) * step)

    def span(self, x: Array, low: float, high: float) -> tuple[float, float]:
        """The range of codes of about the least mean cubed error of the elements ``x``.

        ``low`` and ``high`` are the extremes of all that was seen.  Errors inside are taken for
        uniform, which they are where ranges are worth a search.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        if high <= low:
            return 0.0, 0.0
        tails = _Tails.of(x)
        share = SHARES[tails.best(low * SHARES, high * SHARES, self.top)]
        fine, same = np.minimum(share * FINE, 1.0), np.ones(len(FINE))
        upper = float(high * fine[tails.best(low * share * same, high * fine, self.top)])
        lower = float(low * fine[tails.best(low * fine, upper * same, self.top)])
        return lower, upper


@dataclass(frozen=True)
class _Tails:
    """Sorted numbers, and sums of their powers 0 to 3 up to each of them, ``[4, n + 1]``."""

    numbers: Array
    powers: Array

    @staticmethod
    def of(x: Array) -> _Tails:
        flat = np.sort(x.ravel()[:: (x.size // COUNTED) | 1].astype(np.float64))
        powers = np.zeros((4, len(flat) + 1))
        for k in range(4):
            np.cumsum(flat**k, out=powers[k, 1:])
        return _Tails(flat, powers)

    def best(self, lows: Array, highs: Array, top: int) -> int:
        """Which of some ranges, from narrow to wide, errs least; the last of equals."""
        first = np.searchsorted(self.numbers, lows)
        last = np.searchsorted(self.numbers, highs, "right")
        below = _cubes(lows, self.powers[:, first])
        above = -_cubes(highs, self.powers[:, -1:] - self.powers[:, last])
        inside = (last - first) * ((highs - lows) / top) ** 3 / 32
        cost = below + above + inside
        return int(np.flatnonzero(cost <= cost.min())[-1])


def _cubes(bound: Array, sums: Array) -> Array:
    """The sum of ``(bound - x) ** 3`` over numbers with these sums of powers."""
    count, x, square, cube = sums
    return np.asarray(count * bound**3 - 3 * bound**2 * x + 3 * bound * square - cube)
