"""OCP microscaling formats: 32 elements under a power of two.

Source: Open Compute Project, "OCP Microscaling Formats (MX) Specification", v1.0, 2023, sections
5 (formats) and 6.3 (conversion).
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from ..types import Array
from .base import Format, exponents, signed, unsigned

FLOATS: dict[str, tuple[type, int, int]] = {
    "fp8-e4m3": (ml_dtypes.float8_e4m3fn, 8, 8),
    "fp8-e5m2": (ml_dtypes.float8_e5m2, 8, 15),
    "fp6-e3m2": (ml_dtypes.float6_e3m2fn, 6, 4),
    "fp6-e2m3": (ml_dtypes.float6_e2m3fn, 6, 2),
    "fp4": (ml_dtypes.float4_e2m1fn, 4, 2),
}
"""Element types: their numpy type, their bits, the exponent of their greatest number."""

INT8 = "int8"
BLOCK, BIAS, NAN = 32, 127, 255


@dataclass(frozen=True)
class Mx(Format):
    """``element * 2**(floor(log2(max |x|)) - emax)``; elements saturate.

    ``element``: ``int8`` (steps of 1/64, symmetric), ``fp8-e4m3``, ``fp8-e5m2``, ``fp6-e3m2``,
    ``fp6-e2m3`` or ``fp4``.  The scale is E8M0; its code 255 makes a block NaN.
    """

    block: int = BLOCK
    element: str = "fp4"

    @property
    def name(self) -> str:
        return f"mx{self.element}" + ("" if self.block == BLOCK else f"-{self.block}")

    @property
    def bits(self) -> int:
        return 8 if self.element == INT8 else FLOATS[self.element][1]

    @property
    def scale_bits(self) -> int:
        return 8

    @property
    def undefined(self) -> int:
        return NAN

    @property
    def emax(self) -> int:
        """The exponent of the greatest element."""
        return 0 if self.element == INT8 else FLOATS[self.element][2]

    def scales(self, x: Array) -> Array:
        biased = np.clip(exponents(x) - self.emax + BIAS, 0, NAN - 1)
        return np.asarray(biased.astype(np.uint16))

    def codes(self, x: Array, scales: Array) -> Array:
        v = np.ldexp(x, BIAS - scales.astype(np.int32))
        if self.element == INT8:
            return unsigned(np.clip(np.rint(v * np.float32(64)), -127, 127), 8)
        dtype = FLOATS[self.element][0]
        top = np.float32(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
        return np.asarray(np.clip(v, -top, top).astype(dtype).view(np.uint8))

    def values(self, codes: Array, scales: Array) -> Array:
        if self.element == INT8:
            v = signed(codes, 8).astype(np.float32) / np.float32(64)
        else:
            v = codes.view(FLOATS[self.element][0]).astype(np.float32)
        shift = scales.astype(np.int32) - BIAS
        return np.where(scales == NAN, np.float32(np.nan), np.ldexp(v, shift))
