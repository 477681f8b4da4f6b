"""Conversion to element types of few bits: float8, float4, scales of exponents, int4, int2.

Values of these types are stored and converted, never computed with (OCP MX formats, 2023; ONNX
``Cast``, opsets 19 to 28).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from ..types import Array, TensorType
from .base import Op, Operands, given, operand

SATURATING = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
EXPONENT = "float8_e8m0fnu"


def convert(x: Array, to: str, saturate: bool = True, round_mode: str = "up") -> Array:
    """``x`` as elements of type ``to``.

    ``saturate``: float8 gets its greatest number where ``x`` is beyond it, else NaN or infinity.
    ``round_mode`` (``up``, ``down``, ``nearest``) is for ``float8_e8m0fnu``.
    """
    if to == EXPONENT:
        return _exponents(x.astype(np.float32), saturate, round_mode)
    if to in SATURATING and saturate:
        limits = ml_dtypes.finfo(to)  # type: ignore[no-untyped-call]
        x = np.clip(x.astype(np.float32), float(limits.min), float(limits.max))
    return x.astype(to)


def _exponents(x: Array, saturate: bool, round_mode: str) -> Array:
    """The powers of two around ``|x|``, as ``float8_e8m0fnu`` (code 255 is NaN)."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    exponent, mantissa = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    half = np.uint32(0x400000)
    up = {
        "up": mantissa > 0,
        "down": np.zeros(x.shape, np.bool_),
        "nearest": (mantissa > half) | ((mantissa == half) & (exponent > 0)),
    }[round_mode] & (exponent < 0xFF)
    if saturate:
        up &= exponent < 0xFE
    return np.asarray((exponent + up).astype(np.uint8).view(EXPONENT))


@dataclass(frozen=True)
class BitCast(Op):
    """The same bits read as elements of type ``to``, of the same size."""

    to: str = "int32"

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if x.itemsize != np.dtype(self.to).itemsize:
            raise ValueError(f"elements of {x} have another size than {self.to}")
        return [TensorType(self.to, x.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        return [x.reshape(-1).view(self.to).reshape(x.shape)]
