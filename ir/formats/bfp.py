"""Block floating point: whole numbers that share an exponent.

Source: Guo et al., "Accurate Block Quantization in LLMs with Outliers", 2024, section 2 (BFP12 is
``m=4``, ``e=8``: 4-bit mantissas with sign, symmetric, rounded to nearest).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Array
from .base import Format, exponents, signed, unsigned


@dataclass(frozen=True)
class Bfp(Format):
    """``m`` bits with sign under an exponent of ``e`` bits: ``q * 2**(E - m + 2)``.

    ``E = floor(log2(max |x|))``, ``q`` in ``+-(2**(m - 1) - 1)``.  Exponents are biased by
    ``2**(e - 1) - 1``; the greatest code says that a block is not a number.  What is too large for
    the greatest exponent saturates.
    """

    block: int = 32
    m: int = 4
    e: int = 8

    def __post_init__(self) -> None:
        """Refuse widths that codes cannot have."""
        if not (2 <= self.m <= 8 and 2 <= self.e <= 8 and self.block >= 0):
            raise ValueError(f"bfp{self.m}e{self.e}: mantissa and exponent take 2 to 8 bits")

    @property
    def name(self) -> str:
        exponent = "" if self.e == 8 else f"e{self.e}"
        return f"bfp{self.m}{exponent}" + (f"-{self.block}" if self.block else "")

    @property
    def bits(self) -> int:
        return self.m

    @property
    def scale_bits(self) -> int:
        return self.e

    @property
    def _bias(self) -> int:
        return (1 << (self.e - 1)) - 1

    @property
    def undefined(self) -> int:
        return (1 << self.e) - 1

    def scales(self, x: Array) -> Array:
        biased = np.clip(exponents(x) + self._bias, 0, self.undefined - 1)
        return np.asarray(biased.astype(np.uint16))

    def codes(self, x: Array, scales: Array) -> Array:
        top = (1 << (self.m - 1)) - 1
        with np.errstate(over="ignore"):
            steps = np.ldexp(x, -self._shift(scales))
        return unsigned(np.clip(np.rint(steps), -top, top), self.m)

    def values(self, codes: Array, scales: Array) -> Array:
        known = scales != self.undefined
        whole = signed(codes, self.m).astype(np.float32)
        return np.where(known, np.ldexp(whole, self._shift(scales)), np.float32(np.nan))

    def _shift(self, scales: Array) -> Array:
        """int32 exponent of the step."""
        return np.asarray(scales.astype(np.int32) - self._bias - self.m + 2)
