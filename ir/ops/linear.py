"""Linear quantization as ONNX states it: scales known at run time, blocks, codes of few bits.

``Quantize`` and ``Dequantize`` are the forms for constant scales, which passes understand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from ..types import Array, TensorType
from .base import Op, Operands, given, normal_axis, operand, optional
from .narrow import SATURATING, convert


@dataclass(frozen=True)
class QuantizeLinear(Op):
    """``saturate(rint(x / scale) + zero_point)``; operands: x, scale, zero point?.

    The scale is a scalar, a vector along ``axis``, or one number per ``block_size`` elements of
    it.  Codes of float types are ``x / scale`` rounded to the type.
    """

    axis: int = 1
    block_size: int = 0
    dtype: str = "uint8"
    saturate: bool = True

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if not x.is_float:
            raise ValueError(f"quantizes reals, not {x}")
        return [TensorType(self.dtype, x.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, zero = given(ins), optional(ins, 2)
        y = np.divide(x, spread(given(ins, 1), x, self.axis, self.block_size))
        if self.dtype in SATURATING or self.dtype.startswith("float"):
            return [convert(y, self.dtype, self.saturate)]
        codes = np.rint(y)
        if zero is not None:
            codes = codes + spread(zero, x, self.axis, self.block_size).astype(np.int32)
        limits = ml_dtypes.iinfo(self.dtype)  # type: ignore[no-untyped-call]
        return [np.clip(codes, int(limits.min), int(limits.max)).astype(self.dtype)]


@dataclass(frozen=True)
class DequantizeLinear(Op):
    """``(codes - zero_point) * scale``; operands: codes, scale, zero point?.

    Scales as in :class:`QuantizeLinear`; the result has the scale's element type.
    """

    axis: int = 1
    block_size: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        return [TensorType(operand(ins, 1).type.dtype, operand(ins, 0).type.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        q, scale, zero = given(ins), given(ins, 1), optional(ins, 2)
        reals = q.astype(np.float32)
        if zero is not None:
            reals = reals - spread(zero, q, self.axis, self.block_size).astype(np.float32)
        return [(reals * spread(scale, q, self.axis, self.block_size)).astype(scale.dtype)]


def spread(grid: Array, x: Array, axis: int, block_size: int) -> Array:
    """Scales or zero points so that they broadcast over ``x``."""
    if grid.size == 1:
        return grid.reshape(())
    a = normal_axis(axis, x.ndim)
    if block_size:
        return np.repeat(grid, block_size, a)[tuple(slice(d) for d in x.shape)]
    return grid.reshape([-1 if i == a else 1 for i in range(x.ndim)])
