"""Integer ops that compute each element from the elements at the same place."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from ...ir.ops.base import Op
from ...ir.ops.integer import QMul, QSum, QTable
from ...ir.ops.quantize import Dequantize, Quantize
from .layout import Strided
from .loops import Expr, Frame, merge, nest
from .pixels import are_pixels, emit_pixels

Formula = Callable[[Frame, list[Expr]], Expr]
"""From the frame and the operands' indices to the element of the result."""


@dataclass(frozen=True)
class Copy(Op):
    """Copy a tensor to another place or layout."""


def emit_pointwise(
    frame: Frame,
    ins: tuple[Strided, ...],
    out: Strided,
    formula: Formula,
    mapped: int = -1,
    joined: bool = False,
) -> int:
    """Emit the loops; operands from ``mapped`` on are whole arrays, not read elementwise.

    ``joined``: pixels of three bytes are stored many at a time.
    """
    read = ins if mapped < 0 else ins[:mapped]
    strides = [x.broadcast(out.shape).strides for x in read]
    loops = merge(out.shape, [*strides, out.strides])
    if joined and are_pixels(loops, frame):
        return emit_pixels(frame, loops, lambda at: formula(frame, at))
    with nest(loops, frame) as (indices, extent):
        frame.store(formula(frame, indices[:-1]), indices[-1])
    return extent


def copy(op: Copy) -> Formula:
    """The element itself."""
    return lambda frame, at: frame.load(0, at[0])


def quantize(op: Quantize) -> Formula:
    """``clip(rint(x / s) + zp)``, clipped before the conversion to integers."""
    low, high = op.bounds
    scale, zero = float(np.float32(op.scale[0])), op.zero_point[0]

    def formula(frame: Frame, at: list[Expr]) -> Expr:
        x = tirx.Cast("float32", frame.load(0, at[0]))
        return requantized(x / f32(scale), zero, low, high, op.dtype)

    return formula


def dequantize(op: Dequantize) -> Formula:
    """``float32(q - zp) * s``."""
    scale, zero = float(np.float32(op.scale[0])), op.zero_point[0]

    def formula(frame: Frame, at: list[Expr]) -> Expr:
        q = tirx.Cast("int32", frame.load(0, at[0])) - i32(zero)
        return tirx.Cast(op.dtype, tirx.Cast("float32", q) * f32(scale))

    return formula


def qsum(op: QSum) -> Formula:
    """Fixed point sum in int32."""

    def formula(frame: Frame, at: list[Expr]) -> Expr:
        total: Expr = i32(op.constant)
        for i, multiplier in enumerate(op.multipliers):
            total = total + tirx.Cast("int32", frame.load(i, at[i])) * i32(multiplier)
        return clamped(tirx.shift_right(total, i32(op.shift)), op.low, op.high, "uint8")

    return formula


def qmul(op: QMul) -> Formula:
    """Integer product, one float32 product, rounding."""
    multiplier = float(np.float32(op.multiplier))

    def formula(frame: Frame, at: list[Expr]) -> Expr:
        a = tirx.Cast("int32", frame.load(0, at[0])) - i32(op.a_zero_point)
        b = tirx.Cast("int32", frame.load(1, at[1])) - i32(op.b_zero_point)
        v = tirx.Cast("float32", a * b) * f32(multiplier)
        return requantized(v, op.zero_point, op.low, op.high, "uint8")

    return formula


def qtable(op: QTable) -> Formula:
    """A look-up in 256 entries, the second operand."""
    return lambda frame, at: frame.load(1, tirx.Cast("int32", frame.load(0, at[0])))


def requantized(v: Expr, zero: int, low: int, high: int, dtype: str) -> Expr:
    """``clip(rint(v) + zero, low, high)`` as ``dtype``, for any finite float32 ``v``."""
    rounded = tirx.nearbyint(tirx.min(tirx.max(v, f32(low - zero)), f32(high - zero)))
    return tirx.Cast(dtype, tirx.Cast("int32", rounded) + i32(zero))


def clamped(value: Expr, low: int, high: int, dtype: str) -> Expr:
    """``clip(value, low, high)`` of int32, as ``dtype``."""
    return tirx.Cast(dtype, tirx.min(tirx.max(value, i32(low)), i32(high)))


def least(dtype: str) -> Expr:
    """What no element is below."""
    return tirx.const(float("-inf"), dtype) if "float" in dtype else tirx.min_value(dtype)


def greatest(dtype: str) -> Expr:
    """What no element is above."""
    return tirx.const(float("inf"), dtype) if "float" in dtype else tirx.max_value(dtype)


def f32(value: float) -> Expr:
    """A float32 constant."""
    return tirx.const(float(value), "float32")


def f64(value: float) -> Expr:
    """A float64 constant."""
    return tirx.const(float(value), "float64")


def i32(value: int) -> Expr:
    """An int32 constant."""
    return tirx.const(value, "int32")
