"""Floating point of a few bits without infinities: sign, exponent, mantissa, subnormals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Array


@dataclass(frozen=True)
class Minifloat:
    """``2**(p - bias) * (1 + m / 2**M)``, and ``2**(1 - bias) * m / 2**M`` where ``p`` is 0.

    ``exponent`` and ``mantissa`` are their bits (E2M1: 2 and 1), the bias is
    ``2**(exponent - 1) - 1``.  Rounded to nearest, ties to an even multiple of the step.
    """

    exponent: int
    mantissa: int

    @property
    def bits(self) -> int:
        """Bits with the sign."""
        return 1 + self.exponent + self.mantissa

    @property
    def greatest(self) -> float:
        """The greatest number."""
        return float(2.0 ** ((1 << self.exponent) - 1 - self._bias) * (2 - 2.0**-self.mantissa))

    @property
    def least(self) -> int:
        """The exponent of the least normal number, which subnormal numbers share."""
        return 1 - self._bias

    @property
    def _bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    def codes(self, x: Array) -> Array:
        """uint8 codes of the nearest numbers; what is beyond the greatest one saturates."""
        size = np.minimum(np.abs(x), np.float32(self.greatest))
        floor = np.maximum(np.where(size > 0, np.frexp(size)[1] - 1, self.least), self.least)
        steps = np.rint(np.ldexp(size, self.mantissa - floor)).astype(np.int32)
        # Steps are counted from 0 in every binade: the next one begins where they overflow.
        whole = steps + ((floor - self.least) << self.mantissa)
        return np.asarray(whole + (np.signbit(x) << (self.bits - 1))).astype(np.uint8)

    def values(self, codes: Array) -> Array:
        """float32 numbers."""
        wide = codes.astype(np.int32)
        size = wide & ((1 << (self.bits - 1)) - 1)
        p, m = size >> self.mantissa, size & ((1 << self.mantissa) - 1)
        significand = np.where(p > 0, m + (1 << self.mantissa), m).astype(np.float32)
        sign = np.where(wide >> (self.bits - 1), np.float32(-1), np.float32(1))
        shift = np.maximum(p, 1) - self._bias - self.mantissa
        return np.asarray(np.ldexp(sign * significand, shift))
