"""Whole numbers and floats of a few bits under a real factor.

The factor is a bfloat16: its products with elements are exact in float32, so that encoding what was
decoded changes nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from ..types import Array
from .base import Format, signed, unsigned
from .minifloat import Minifloat

LEAST = 2.0**-126
"""The least factor: that of zeros."""

NAN = int(np.array(np.nan, ml_dtypes.bfloat16).view(np.uint16))
GREATEST = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Scaled(Format):
    """Elements times a factor that brings the greatest number of a block to the greatest one."""

    @property
    def scale_bits(self) -> int:
        return 16

    @property
    def undefined(self) -> int:
        return NAN

    @property
    @abstractmethod
    def top(self) -> float:
        """The greatest element."""

    def scales(self, x: Array) -> Array:
        factor = np.abs(x).max(-1, initial=0.0) / np.float32(self.top)
        factor = np.clip(factor, np.float32(LEAST), np.float32(GREATEST)).astype(ml_dtypes.bfloat16)
        return np.asarray(factor.view(np.uint16))


def factors(scales: Array) -> Array:
    """float32 factors of scales."""
    return np.asarray(scales.view(ml_dtypes.bfloat16).astype(np.float32))


@dataclass(frozen=True)
class ScaledInt(Scaled):
    """Whole numbers in ``+-(2**(width - 1) - 1)``; ``width`` 2 to 8."""

    width: int = 4

    def __post_init__(self) -> None:
        """Refuse widths that codes cannot have."""
        if not 2 <= self.width <= 8:
            raise ValueError(f"int{self.width}: whole numbers take 2 to 8 bits")

    @property
    def name(self) -> str:
        return f"int{self.width}" + (f"-{self.block}" if self.block else "")

    @property
    def bits(self) -> int:
        return self.width

    @property
    def top(self) -> float:
        return float((1 << (self.width - 1)) - 1)

    def codes(self, x: Array, scales: Array) -> Array:
        top = np.float32(self.top)
        return unsigned(np.clip(np.rint(x / factors(scales)), -top, top), self.width)

    def values(self, codes: Array, scales: Array) -> Array:
        return np.asarray(signed(codes, self.width).astype(np.float32) * factors(scales))


@dataclass(frozen=True)
class ScaledFloat(Scaled):
    """Floats of ``exponent`` and ``mantissa`` bits with a real-valued bias: the factor's logarithm.

    Source: Liu et al., "LLM-FP4", 2023, section 3.1: ``2**(p - b) * (1 + m / 2**M)`` with a real
    ``b`` is a float with a whole bias times ``2**-b``.
    """

    exponent: int = 2
    mantissa: int = 1

    @property
    def name(self) -> str:
        return f"e{self.exponent}m{self.mantissa}" + (f"-{self.block}" if self.block else "")

    @property
    def element(self) -> Minifloat:
        """The elements."""
        return Minifloat(self.exponent, self.mantissa)

    @property
    def bits(self) -> int:
        return self.element.bits

    @property
    def top(self) -> float:
        return self.element.greatest

    def codes(self, x: Array, scales: Array) -> Array:
        return self.element.codes(x / factors(scales))

    def values(self, codes: Array, scales: Array) -> Array:
        return np.asarray(self.element.values(codes) * factors(scales))
