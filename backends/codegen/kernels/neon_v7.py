"""NEON of 32-bit ARM (armv7) as TIR expressions: vectors of four int32.

Conversions there truncate, so rounding half to even is done by adding and subtracting 2**23.
Tables are looked up one code after the other: registers are few.
"""

from dataclasses import dataclass

from tvm import tirx

from .isa import Expr, call, shuffle, splat
from .neon import Neon

_INTEGERS_FROM = 2.0**23
"""From here on float32 has no fractions."""


@dataclass(frozen=True)
class NeonV7(Neon):
    """128-bit vectors of armv7 with fused multiply-add (vfpv4)."""

    looks_up: bool = False

    def round(self, value: Expr) -> Expr:
        """Round float32 lanes half to even to int32, saturating."""
        bits = tirx.reinterpret("uint32x4", value)
        sign = bits & splat(0x80000000, "uint32", 4)
        size = tirx.reinterpret("float32x4", bits & splat(0x7FFFFFFF, "uint32", 4))
        unit = splat(_INTEGERS_FROM, "float32", 4)
        # A fused product by one: TVM would take `size + unit - unit` for `size`.
        raised = call("float32x4", "llvm.fma", size, splat(1.0, "float32", 4), unit)
        whole = tirx.Select(size < unit, raised - unit, size)
        signed = tirx.reinterpret("float32x4", tirx.reinterpret("uint32x4", whole) | sign)
        return call("int32x4", "llvm.fptosi.sat", signed)

    def pack_words(self, low: Expr, high: Expr) -> Expr:
        """Saturate two int32 vectors to one int16 vector (vqmovn.s32)."""
        name = "llvm.arm.neon.vqmovns.v4i16"
        return shuffle([call("int16x4", name, half) for half in (low, high)], range(8))

    def pack_bytes(self, low: Expr, high: Expr) -> Expr:
        """Saturate two int16 vectors to one uint8 vector (vqmovun.s16)."""
        name = "llvm.arm.neon.vqmovnsu.v8i8"
        return shuffle([call("uint8x8", name, half) for half in (low, high)], range(16))

    def multiply(self, left: Expr, right: Expr) -> Expr:
        """Products of eight int8 and eight int8 as int16 (vmull.s8)."""
        return call("int16x8", "llvm.arm.neon.vmulls.v8i16", left, right)

    def add_pairs(self, acc: Expr, products: Expr) -> Expr:
        """Add the sums of neighbouring int16 to the int32 lanes (vpadal.s16)."""
        return acc + call("int32x4", "llvm.arm.neon.vpaddls.v4i32.v8i16", products)
