"""uint8 x int8 convolution with AVX2, exact: bytes become int16 pairs for vpmaddwd.

Four bytes are broadcast to every lane; a mask leaves the even ones and a shift the odd ones as
pairs of int16, so no shuffle is needed. The weights are packed as int16, or widened as they come
where hardly anything else is done with them. vpmaddubsw is shorter, but saturates: ``avx2_short``.
"""

from tvm import tirx

from .isa import Expr, splat
from .register_tile import Dot, RegisterConv
from .x86 import X86

_ISA = X86(8)
_NEAR_BYTES = 36 << 10


def avx2() -> RegisterConv:
    """The template."""
    return RegisterConv(Dot(_ISA, 4, 2, "int16", "int32", _broadcast, _add), 12, _cycles)


def avx2_narrow() -> RegisterConv:
    """The template whose weights are int8 in memory too: half the bytes, one more instruction."""
    dot = Dot(_ISA, 4, 2, "int8", "int32", _broadcast, _add_narrow)
    return RegisterConv(dot, 12, _cycles_narrow)


def _broadcast(x: Expr, index: Expr) -> list[Expr]:
    """Elements (0, 2) and (1, 3) of four adjacent uint8 as int16 pairs in every lane."""
    quad = tirx.Broadcast(tirx.reinterpret("uint32", x.vload([index], "uint8x4")), 8)
    even = quad & splat(0x00FF00FF, "uint32", 8)
    odd = tirx.shift_right(tirx.reinterpret("uint16x16", quad), splat(8, "uint16", 16))
    return [tirx.reinterpret("int16x16", even), tirx.reinterpret("int16x16", odd)]


def _add(acc: Expr, pixel: Expr, weights: Expr) -> Expr:
    return acc + _ISA.multiply_pairs(pixel, weights)


def _add_narrow(acc: Expr, pixel: Expr, weights: Expr) -> Expr:
    return _add(acc, pixel, tirx.Cast("int16x16", weights))


def _cycles_narrow(pixels: int, vectors: int, steps: int) -> float:
    """Every vector of weights is widened once for all pixels of a tile."""
    dots = pixels * vectors
    near = dots * 4 / 3 + 1.3 * vectors + 0.1 * pixels + 0.6
    return steps * near + dots * 3.5 + 25


def _cycles(pixels: int, vectors: int, steps: int) -> float:
    """As measured on Zen 3 (``qc tune``): four instructions a dot, three a cycle.

    Several pixels of more than two vectors leave no registers for weights.  Weights of a block
    that is larger than L1 come from L2, for every tile again.
    """
    dots = pixels * vectors
    crowded = 1.2 if pixels > 1 and vectors > 2 else 1.0
    near = dots * 4 / 3 * crowded + 0.1 * pixels + 0.6
    far = 2.6 * vectors if 64 * vectors * steps > _NEAR_BYTES else 0.0
    return steps * max(near, far) + dots * 3.5 + 25
