"""What weights in a number format can be: elements times a step that their block shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from ...ir.formats import Bfp, Encoded, Format, Mx, ScaledFloat, ScaledInt, parse
from ...ir.formats.base import unsigned
from ...ir.formats.mx import BIAS, FLOATS, INT8
from ...ir.formats.mx import NAN as MX_NAN
from ...ir.types import Array
from .second_order import nearest

SHARES = np.linspace(0.6, 1.15, 23)
"""Of a block's reach that its greatest element may stand for, where steps are real."""

OCTAVES = (0, 1, -1)
"""Powers of two to try beside the one that the format's own rule gives; the first of equals."""


@dataclass(frozen=True)
class Elements(ABC):
    """One kind of format, as second-order rounding sees it."""

    format: Format

    @staticmethod
    def of(name: str) -> Elements | None:
        """Those of a format; None for one whose elements are no multiples of a step."""
        match parse(name):
            case ScaledInt() as f:
                return Whole(f)
            case ScaledFloat() as f:
                return Floats(f)
            case Bfp() as f:
                return Blocks(f)
            case Mx() as f:
                return Microscaled(f)
        return None

    @abstractmethod
    def nearest(self, x: Array) -> Array:
        """The elements nearest to ``x``, which is in steps."""

    @abstractmethod
    def steps(self, reach: Array) -> Iterator[Array]:
        """Steps to try, exact, none of them zero, for blocks with numbers up to ``reach``."""

    def exact(self, steps: Array) -> Array | None:
        """The nearest of all steps, none of them zero; None where they are powers of two."""
        return None

    @abstractmethod
    def scales(self, steps: Array) -> Array:
        """The uint16 codes of steps."""

    @abstractmethod
    def codes(self, elements: Array) -> Array:
        """The uint8 codes of elements."""

    def encoded(self, elements: Array, steps: Array, length: int) -> Encoded:
        """``elements [..., blocks, size]`` times ``steps [..., blocks]``."""
        return Encoded(self.scales(steps), self.codes(elements), length)


@dataclass(frozen=True)
class Whole(Elements):
    """Whole numbers times a bfloat16, all of two's complement.

    There is one negative code more than positive ones: a step is negative where that serves.
    """

    format: ScaledInt

    def nearest(self, x: Array) -> Array:
        return nearest(x, range(-int(self.format.top) - 1, int(self.format.top) + 1))

    def steps(self, reach: Array) -> Iterator[Array]:
        for share in (*SHARES, *-SHARES):
            yield _bfloat16(reach * share / (self.format.top + 1))

    def exact(self, steps: Array) -> Array:
        return _bfloat16(steps)

    def scales(self, steps: Array) -> Array:
        return np.asarray(steps.astype(ml_dtypes.bfloat16).view(np.uint16))

    def codes(self, elements: Array) -> Array:
        return unsigned(elements, self.format.width)


@dataclass(frozen=True)
class Floats(Elements):
    """Small floats times a bfloat16."""

    format: ScaledFloat

    def nearest(self, x: Array) -> Array:
        return self.format.element.values(self.codes(x)).astype(np.float64)

    def steps(self, reach: Array) -> Iterator[Array]:
        for share in SHARES:
            yield _bfloat16(reach * share / self.format.top)

    def exact(self, steps: Array) -> Array:
        return _bfloat16(steps)

    def scales(self, steps: Array) -> Array:
        return np.asarray(steps.astype(ml_dtypes.bfloat16).view(np.uint16))

    def codes(self, elements: Array) -> Array:
        return self.format.element.codes(elements)


@dataclass(frozen=True)
class Blocks(Elements):
    """Block floating point: whole numbers times a power of two."""

    format: Bfp

    def nearest(self, x: Array) -> Array:
        top = (1 << (self.format.m - 1)) - 1
        return nearest(x, range(-top, top + 1))

    def steps(self, reach: Array) -> Iterator[Array]:
        bias = (1 << (self.format.e - 1)) - 1
        return _powers(reach, self.format.m - 2, -bias, self.format.undefined - 1 - bias)

    def scales(self, steps: Array) -> Array:
        biased = np.frexp(steps)[1] - 1 + self.format.m - 2 + (1 << (self.format.e - 1)) - 1
        return np.asarray(biased.astype(np.uint16))

    def codes(self, elements: Array) -> Array:
        return unsigned(elements, self.format.m)


@dataclass(frozen=True)
class Microscaled(Elements):
    """OCP MX: elements times a power of two; those of MXINT8 are multiples of 1/64."""

    format: Mx

    def nearest(self, x: Array) -> Array:
        if self.format.element == INT8:
            return nearest(64 * x, range(-127, 128)) / 64
        dtype = FLOATS[self.format.element][0]
        return self._floats(x).astype(dtype).astype(np.float64)

    def steps(self, reach: Array) -> Iterator[Array]:
        low, high = -BIAS + self.format.emax, MX_NAN - 1 - BIAS + self.format.emax
        return _powers(reach, self.format.emax, low, high)

    def scales(self, steps: Array) -> Array:
        return np.asarray((np.frexp(steps)[1] - 1 + BIAS).astype(np.uint16))

    def codes(self, elements: Array) -> Array:
        if self.format.element == INT8:
            return unsigned(64 * elements, 8)
        return np.asarray(self._floats(elements).astype(FLOATS[self.format.element][0])).view(
            np.uint8
        )

    def _floats(self, x: Array) -> Array:
        top = np.float32(ml_dtypes.finfo(FLOATS[self.format.element][0]).max)  # type: ignore[no-untyped-call]
        return np.asarray(np.clip(x, -top, top).astype(np.float32))


def _bfloat16(steps: Array) -> Array:
    """The nearest factors that a format can hold, none of them zero."""
    least = float(ml_dtypes.finfo(ml_dtypes.bfloat16).smallest_normal)  # type: ignore[no-untyped-call]
    found = np.copysign(np.maximum(np.abs(steps), least), steps)
    return found.astype(ml_dtypes.bfloat16).astype(np.float64)


def _powers(reach: Array, shift: int, low: int, high: int) -> Iterator[Array]:
    """``2**(floor(log2(reach)) - shift)`` and its neighbours, exponents from ``low`` to ``high``.

    The range is that of exponents before ``shift`` is taken off.
    """
    exponent = np.where(reach > 0, np.frexp(reach)[1] - 1, low)
    for octave in OCTAVES:
        yield np.ldexp(1.0, np.clip(exponent + octave, low, high) - shift)
