"""NEON of 64-bit ARM as TIR expressions: vectors of four int32."""

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as I

from .isa import Expr, call, shuffle, splat


@dataclass(frozen=True)
class Neon:
    """128-bit vectors; nothing here is beyond armv8.0 but the two dot products."""

    lanes: int = 4
    bytes: int = 16
    looks_up: bool = True
    saturates: bool = True

    def round(self, value: Expr) -> Expr:
        """Round float32 lanes half to even to int32, saturating (fcvtns)."""
        return call("int32x4", "llvm.aarch64.neon.fcvtns.v4i32.v4f32", value)

    def pack_words(self, low: Expr, high: Expr) -> Expr:
        """Saturate two int32 vectors to one int16 vector (sqxtn, sqxtn2)."""
        name = "llvm.aarch64.neon.sqxtn.v4i16"
        return shuffle([call("int16x4", name, half) for half in (low, high)], range(8))

    def pack_bytes(self, low: Expr, high: Expr) -> Expr:
        """Saturate two int16 vectors to one uint8 vector (sqxtun, sqxtun2)."""
        name = "llvm.aarch64.neon.sqxtun.v8i8"
        return shuffle([call("uint8x8", name, half) for half in (low, high)], range(16))

    def add_saturated(self, value: Expr, constant: int) -> Expr:
        """Add a constant to int16 lanes with saturation (sqadd)."""
        return call("int16x8", "llvm.sadd.sat", value, splat(constant, "int16", 8))

    def look_up(self, table: Expr, codes: Expr) -> Expr:
        """``table[codes]``: each quarter answers the codes in its range, 0 else (tbl)."""
        found = None
        for quarter in range(4):
            rows = [I.bind(table.vload([64 * quarter + 16 * i], "uint8x16")) for i in range(4)]
            index = codes - splat(64 * quarter, "uint8", 16) if quarter else codes
            part = call("uint8x16", "llvm.aarch64.neon.tbl4.v16i8", *rows, index)
            found = part if found is None else found | part
        return found

    def dot_bytes(self, acc: Expr, signed: Expr, weights: Expr) -> Expr:
        """Add the dot products of four int8 and four int8 to each int32 lane (sdot).

        The codes come last: the instruction takes them by lane.
        """
        return call("int32x4", "llvm.aarch64.neon.sdot.v4i32.v16i8", acc, weights, signed)

    def dot_mixed(self, acc: Expr, unsigned: Expr, weights: Expr) -> Expr:
        """The same for four uint8 and four int8 (usdot, of i8mm)."""
        return call("int32x4", "llvm.aarch64.neon.usdot.v4i32.v16i8", acc, unsigned, weights)

    def multiply_matrices(self, acc: Expr, unsigned: Expr, weights: Expr) -> Expr:
        """Add 2x8 uint8 by 8x2 int8, both by rows of eight, to 2x2 int32 (usmmla, of i8mm)."""
        return call("int32x4", "llvm.aarch64.neon.usmmla.v4i32.v16i8", acc, unsigned, weights)

    def multiply(self, left: Expr, right: Expr) -> Expr:
        """Products of eight int8 and eight int8 as int16 (smull)."""
        return call("int16x8", "llvm.aarch64.neon.smull.v8i16", left, right)

    def add_pairs(self, acc: Expr, products: Expr) -> Expr:
        """Add the sums of neighbouring int16 to the int32 lanes (sadalp)."""
        return acc + call("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", products)
