"""uint8 x int8 convolution with AVX2, exact: bytes become int16 pairs for vpmaddwd.

Four bytes are broadcast to every lane; a mask leaves the even ones and a shift the odd ones as
pairs of int16, so no shuffle is needed. The weights are packed as int16. vpmaddubsw would be
shorter, but it saturates.
"""

from tvm import tirx

from .isa import Expr, splat
from .register_tile import Dot, RegisterConv
from .x86 import X86

_ISA = X86(8)


def avx2() -> RegisterConv:
    """The template."""
    return RegisterConv(Dot(_ISA, 4, 2, "int16", "int32", _broadcast, _add), 12, _cycles)


def _broadcast(x: Expr, index: Expr) -> list[Expr]:
    """Elements (0, 2) and (1, 3) of four adjacent uint8 as int16 pairs in every lane."""
    quad = tirx.Broadcast(tirx.reinterpret("uint32", x.vload([index], "uint8x4")), 8)
    even = quad & splat(0x00FF00FF, "uint32", 8)
    odd = tirx.shift_right(tirx.reinterpret("uint16x16", quad), splat(8, "uint16", 16))
    return [tirx.reinterpret("int16x16", even), tirx.reinterpret("int16x16", odd)]


def _add(acc: Expr, pixel: Expr, weights: Expr) -> Expr:
    return acc + _ISA.multiply_pairs(pixel, weights)


def _cycles(pixels: int, vectors: int, steps: int) -> float:
    """Four instructions for two pairs at three a cycle; weights are read as operands."""
    dots = pixels * vectors
    loads = pixels + 2 * vectors
    return steps * max(dots * 4 / 3 + pixels * 0.7, loads / 1.6, 5.0) + dots * 3.5 + 25
