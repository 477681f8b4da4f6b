"""uint8 x int8 convolution for 64-bit ARM: usdot, sdot, or plain NEON, all exact.

The latter two multiply int8 by int8: 128 is taken off every code, and what that takes off the sum
is in the bias (``RegisterConv.bias``).
"""

from collections.abc import Sequence

from tvm import tirx

from .isa import Expr, shuffle
from .neon import Neon, signed_quad
from .register_tile import Dot, RegisterConv

_ISA = Neon()


def usdot() -> RegisterConv:
    """The template for cpus with i8mm."""

    def broadcast(x: Expr, index: Expr) -> list[Expr]:
        quad = tirx.reinterpret("uint32", x.vload([index], "uint8x4"))
        return [tirx.reinterpret("uint8x16", tirx.Broadcast(quad, 4))]

    def add(acc: Expr, pixel: Sequence[Expr], weights: Sequence[Expr]) -> Expr:
        return _ISA.dot_mixed(acc, pixel[0], weights[0])

    return RegisterConv(Dot(_ISA, 4, 1, "int8", "int32", broadcast, add), 24, _cycles_dot)


def sdot() -> RegisterConv:
    """The template for cpus with dotprod."""

    def broadcast(x: Expr, index: Expr) -> list[Expr]:
        return [tirx.reinterpret("int8x16", tirx.Broadcast(signed_quad(x, index), 4))]

    def add(acc: Expr, pixel: Sequence[Expr], weights: Sequence[Expr]) -> Expr:
        return _ISA.dot_bytes(acc, pixel[0], weights[0])

    return RegisterConv(Dot(_ISA, 4, 1, "int8", "int32", broadcast, add, 128), 24, _cycles_dot)


def neon() -> RegisterConv:
    """The template for armv8.0: pairs of products fit int16, since weights are above -128.

    ``2 * 128 * 127 < 2**15``: smull and smlal, then one sadalp for both.
    """

    def broadcast(x: Expr, index: Expr) -> list[Expr]:
        quad = tirx.reinterpret("int8x16", tirx.Broadcast(signed_quad(x, index), 4))
        return [shuffle([quad], [first, first + 2] * 4) for first in (0, 1)]

    def add(acc: Expr, pixel: Sequence[Expr], weights: Sequence[Expr]) -> Expr:
        first, second = (_ISA.multiply(p, w) for p, w in zip(pixel, weights, strict=True))
        return _ISA.add_pairs(acc, first + second)

    return RegisterConv(
        Dot(_ISA, 4, 2, "int8", "int32", broadcast, add, 128, -127), 20, _cycles_plain
    )


def _cycles_dot(pixels: int, vectors: int, steps: int) -> float:
    """Two dots a cycle; a broadcast costs a load and an xor."""
    dots, loads = pixels * vectors, pixels + vectors
    return steps * max(dots / 2, loads / 2 + pixels, 4.0) + dots * 5 + 30


def _cycles_plain(pixels: int, vectors: int, steps: int) -> float:
    """Three instructions a step, one a cycle; a broadcast is a load, an xor and two shuffles."""
    dots = pixels * vectors
    return steps * (3 * dots + 3 * pixels + vectors) + dots * 8 + 30
