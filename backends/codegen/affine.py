"""Elementwise kernels that only the lowering makes or whose operands it has to broadcast."""

from dataclasses import dataclass

from tvm import tirx

from ...ir.ops.base import Op
from ...ir.ops.integer import DequantizeAccumulator
from .loops import Expr, Frame
from .pointwise import Formula


@dataclass(frozen=True)
class Affine(Op):
    """``x * factor + offset`` with broadcast operands x, factor, offset."""


def affine(op: Affine) -> Formula:
    """One multiply-add."""

    def formula(frame: Frame, at: list[Expr]) -> Expr:
        return frame.load(0, at[0]) * frame.load(1, at[1]) + frame.load(2, at[2])

    return formula


def dequantize_accumulator(op: DequantizeAccumulator) -> Formula:
    """``float32(acc - zp * wsum) * (scale * wscale) + bias``; all operands broadcast already."""

    def formula(frame: Frame, at: list[Expr]) -> Expr:
        acc, scale, zero, wsum, wscale, *bias = (frame.load(i, x) for i, x in enumerate(at))
        exact = tirx.Cast("float32", acc - tirx.Cast("int32", zero) * wsum)
        step = scale * wscale
        if not bias:
            return exact * step
        if frame.fine:
            return tirx.call_pure_extern("float32", "fmaf", exact, step, bias[0])
        return tirx.call_llvm_pure_intrin("float32", "llvm.fma", exact, step, bias[0])

    return formula
