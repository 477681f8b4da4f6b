"""The arithmetic of the epilogue on vectors: scale, round, add, clamp, pack, look up.

No float addition appears, so a fused multiply-add cannot change a bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .epilogue import Epilogue
from .isa import Expr, Isa, splat


@dataclass(frozen=True)
class Requantize:
    """Emits the values of an epilogue for int32 accumulators of ``isa.lanes`` lanes."""

    isa: Isa
    epilogue: Epilogue

    def word(self, acc: Expr, scale: Expr, code: Expr) -> Expr:
        """int32 lanes which ``pack`` may finish; without a residual the zero point is missing.

        The clamp from above guards a conversion whose overflow gives the lowest integer.
        ``code``: the residual's codes as int32, or None.
        """
        if self.epilogue.residual is not None:
            return I.bind(self._sum_with_residual(acc, scale, code))
        scaled = self._scaled(acc, scale)
        if not self.isa.saturates:
            top = float(self.epilogue.high - self.epilogue.zero_point)
            scaled = tirx.min(scaled, splat(top, "float32", self.isa.lanes))
        return I.bind(self.isa.round(scaled))

    def pack(self, words: Sequence[Expr]) -> Expr:
        """Four int32 vectors as one clamped uint8 vector, in the order of the pack instructions.

        Byte ``16*quad + 4*vector + i`` is lane ``4*quad + i`` of ``words[vector]``.
        """
        isa, epilogue = self.isa, self.epilogue
        halves = [isa.pack_words(words[0], words[1])]
        repeated = words[0] is words[2] and words[1] is words[3]
        halves.append(halves[0] if repeated else isa.pack_words(words[2], words[3]))
        if epilogue.residual is None and epilogue.zero_point:
            halves = [isa.add_saturated(half, epilogue.zero_point) for half in halves]
        codes = isa.pack_bytes(halves[0], halves[1])
        if epilogue.low > 0:
            codes = tirx.max(codes, splat(epilogue.low, "uint8", isa.bytes))
        clamped = epilogue.residual is None and not isa.saturates
        if epilogue.high < 255 and not clamped:
            codes = tirx.min(codes, splat(epilogue.high, "uint8", isa.bytes))
        return I.bind(codes)

    def wide(self, acc: Expr, scale: Expr, code: Expr) -> Expr:
        """The final value of the epilogues whose output has more than eight bits."""
        epilogue, lanes = self.epilogue, self.isa.lanes
        if epilogue.dtype == "int32":
            return acc
        if epilogue.dtype == "float32":
            return self._scaled(acc, scale)
        if epilogue.residual is not None:
            value = self._sum_with_residual(acc, scale, code)
            value = tirx.max(value, splat(epilogue.low, "int32", lanes))
            value = tirx.min(value, splat(epilogue.high, "int32", lanes))
        else:
            zero = epilogue.zero_point
            value = self._scaled(acc, scale)
            value = tirx.max(value, splat(float(epilogue.low - zero), "float32", lanes))
            value = tirx.min(value, splat(float(epilogue.high - zero), "float32", lanes))
            value = self.isa.round(value) + splat(zero, "int32", lanes)
        return tirx.Cast(f"{epilogue.dtype}x{lanes}", value)

    def _scaled(self, acc: Expr, scale: Expr) -> Expr:
        return tirx.Cast(f"float32x{self.isa.lanes}", acc) * scale

    def _sum_with_residual(self, acc: Expr, scale: Expr, code: Expr) -> Expr:
        """``(rint(v) + r*multiplier + constant) >> shift``."""
        residual, lanes = self.epilogue.residual, self.isa.lanes
        assert residual is not None
        total = self.isa.round(self._scaled(acc, scale))
        total = total + code * splat(residual.multiplier, "int32", lanes)
        total = total + splat(residual.constant, "int32", lanes)
        return tirx.shift_right(total, splat(residual.shift, "int32", lanes))
