"""The epilogue of one accumulator, and the store of results of adjacent channels.

No float addition appears, so a fused multiply-add cannot change a bit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ..conv import ConvWorkload
from ..epilogue import Epilogue, FloatEpilogue
from ..isa import Expr
from ..operands import Operands
from .device import aligned, at, do, f32, i32, store


@dataclass(frozen=True)
class Finish:
    """What becomes of sums (without the bias) of a workload."""

    workload: ConvWorkload
    operands: Operands

    def __call__(self, sums: Sequence[Expr], row: Expr, column: Expr, channel: Expr) -> None:
        """Emit the stores of one output pixel's adjacent channels, the first of them given."""
        y, residual = self.workload.y, self.workload.residual
        first = I.bind(row * y.row_stride + column * y.pixel_stride + channel)
        other = None
        if residual is not None:
            other = I.bind(row * residual.row_stride + column * residual.pixel_stride + channel)
        values = [
            self._value(acc, channel + i, None if other is None else other + i)
            for i, acc in enumerate(sums)
        ]
        if y.dtype == "uint8" and len(values) in (2, 4):
            words = [tirx.Cast("int32", v) for v in values]
            apart = gcd(y.row_stride, y.pixel_stride, len(values))
            store_all = aligned(f"qc_store{len(values)}", apart, "y")
            do(store_all, at(self.operands.y, first), *words)
            return
        for i, value in enumerate(values):
            store(self.operands.y, value, first + i)

    def _value(self, acc: Expr, channel: Expr, residual: Expr) -> Expr:
        epilogue, operands = self.workload.epilogue, self.operands
        total = I.bind(acc + operands.bias[channel])
        if isinstance(epilogue, FloatEpilogue):
            return _clamped(total, epilogue)
        if epilogue.dtype == "int32":
            return total
        scaled = tirx.Cast("float32", total) * operands.multiplier[channel]
        if epilogue.dtype == "float32":
            return scaled
        if epilogue.residual is None:
            code = _requantized(scaled, epilogue)
        else:
            code = _sum(scaled, operands.residual[residual], epilogue)
        code = operands.table[code] if epilogue.table else tirx.Cast(epilogue.dtype, code)
        return I.bind(code)


def _clamped(value: Expr, epilogue: FloatEpilogue) -> Expr:
    if epilogue.low > -math.inf:
        value = tirx.max(value, f32(epilogue.low))
    return value if epilogue.high == math.inf else tirx.min(value, f32(epilogue.high))


def _requantized(scaled: Expr, epilogue: Epilogue) -> Expr:
    """Clamped before the conversion, which no overflow reaches."""
    low, high = epilogue.low - epilogue.zero_point, epilogue.high - epilogue.zero_point
    return _rounded(tirx.min(tirx.max(scaled, f32(low)), f32(high))) + i32(epilogue.zero_point)


def _sum(scaled: Expr, residual: Expr, epilogue: Epilogue) -> Expr:
    """``(rint(v) + r*multiplier + constant) >> shift``, clamped."""
    r = epilogue.residual
    assert r is not None
    total = _rounded(scaled) + tirx.Cast("int32", residual) * i32(r.multiplier) + i32(r.constant)
    return tirx.min(
        tirx.max(tirx.shift_right(total, i32(r.shift)), i32(epilogue.low)), i32(epilogue.high)
    )


def _rounded(value: Expr) -> Expr:
    """Half to even."""
    return I.bind(tirx.call_pure_extern("int32", "__float2int_rn", value))
