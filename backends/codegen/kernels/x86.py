"""Vector instructions of x86 as TIR expressions, by the number of 32-bit lanes."""

from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .isa import Expr, call, splat

_BITS = {16: "512", 8: "256", 4: "128"}
_PACK_WORDS = {
    16: "llvm.x86.avx512.packssdw.512",
    8: "llvm.x86.avx2.packssdw",
    4: "llvm.x86.sse2.packssdw.128",
}
_PACK_BYTES = {
    16: "llvm.x86.avx512.packuswb.512",
    8: "llvm.x86.avx2.packuswb",
    4: "llvm.x86.sse2.packuswb.128",
}
_MULTIPLY_BYTES = {8: "llvm.x86.avx2.pmadd.ub.sw"}
_MULTIPLY_PAIRS = {
    16: "llvm.x86.avx512.pmaddw.d.512",
    8: "llvm.x86.avx2.pmadd.wd",
    4: "llvm.x86.sse2.pmadd.wd",
}


@dataclass(frozen=True)
class X86:
    """A vector width: ``lanes`` int32 lanes (16 AVX-512, 8 AVX2, 4 SSE); ``vbmi``: vpermi2b."""

    lanes: int
    vbmi: bool = False

    @property
    def bytes(self) -> int:
        """The width of a vector in bytes."""
        return 4 * self.lanes

    @property
    def looks_up(self) -> bool:
        """Whether the codes of a vector are looked up by instructions."""
        return self.vbmi and self.lanes == 16

    @property
    def saturates(self) -> bool:
        """cvtps2dq gives the lowest integer for whatever does not fit."""
        return False

    def round(self, value: Expr) -> Expr:
        """Round float32 lanes half to even to int32 (cvtps2dq)."""
        if self.lanes == 16:
            zero, all_lanes = splat(0, "int32", 16), tirx.IntImm("int16", -1)
            name = "llvm.x86.avx512.mask.cvtps2dq.512"
            return call("int32x16", name, value, zero, all_lanes, tirx.IntImm("int32", 4))
        name = {8: "llvm.x86.avx.cvt.ps2dq.256", 4: "llvm.x86.sse2.cvtps2dq"}[self.lanes]
        return call(f"int32x{self.lanes}", name, value)

    def pack_words(self, low: Expr, high: Expr) -> Expr:
        """Saturate two int32 vectors to one int16 vector, within 128-bit lanes."""
        return call(f"int16x{2 * self.lanes}", _PACK_WORDS[self.lanes], low, high)

    def pack_bytes(self, low: Expr, high: Expr) -> Expr:
        """Saturate two int16 vectors to one uint8 vector, within 128-bit lanes."""
        return call(f"uint8x{4 * self.lanes}", _PACK_BYTES[self.lanes], low, high)

    def add_saturated(self, value: Expr, constant: int) -> Expr:
        """Add a constant to int16 lanes with saturation."""
        lanes = 2 * self.lanes
        return call(f"int16x{lanes}", "llvm.sadd.sat", value, splat(constant, "int16", lanes))

    def dot_bytes(self, acc: Expr, unsigned: Expr, signed: Expr) -> Expr:
        """Add the dot products of four uint8 and four int8 to each int32 lane (vpdpbusd)."""
        name = f"llvm.x86.avx512.vpdpbusd.{_BITS[self.lanes]}"
        return call(f"int32x{self.lanes}", name, acc, unsigned, signed)

    def multiply_bytes(self, unsigned: Expr, signed: Expr) -> Expr:
        """The dot products of two uint8 and two int8 as int16 lanes, saturated (vpmaddubsw)."""
        lanes = 2 * self.lanes
        return call(f"int16x{lanes}", _MULTIPLY_BYTES[self.lanes], unsigned, signed)

    def multiply_pairs(self, left: Expr, right: Expr) -> Expr:
        """The dot products of two int16 and two int16 as int32 lanes (vpmaddwd)."""
        return call(f"int32x{self.lanes}", _MULTIPLY_PAIRS[self.lanes], left, right)

    def look_up(self, table: Expr, codes: Expr) -> Expr:
        """``table[codes]`` for uint8 codes and 256 entries; needs ``vbmi`` and 16 lanes."""
        assert self.vbmi
        assert self.lanes == 16
        rows = [I.bind(table.vload([64 * i], "uint8x64")) for i in range(4)]
        name, dtype = "llvm.x86.avx512.vpermi2var.qi.512", "uint8x64"
        lower = call(dtype, name, rows[0], codes, rows[1])
        upper = call(dtype, name, rows[2], codes, rows[3])
        return tirx.Select(codes >= splat(128, "uint8", 64), upper, lower)
