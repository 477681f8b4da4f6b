"""uint8 x int8 convolution with vpdpbusd: AVX512-VNNI on 512 bits, AVX-VNNI on 256."""

from tvm import tirx

from .isa import Expr
from .register_tile import Dot, RegisterConv
from .x86 import X86


def vnni(vbmi: bool = False) -> RegisterConv:
    """The template for AVX512-VNNI; ``vbmi``: the cpu has vpermi2b, for table look-ups."""
    return RegisterConv(_dot(X86(16, vbmi)), 28, _cycles)


def avx_vnni() -> RegisterConv:
    """The template for 256-bit vectors, of AVX-VNNI or AVX512-VNNI with AVX512VL."""
    return RegisterConv(_dot(X86(8)), 12, _cycles)


def _dot(isa: X86) -> Dot:
    def broadcast(x: Expr, index: Expr) -> list[Expr]:
        """Four adjacent uint8 in every lane."""
        quad = tirx.reinterpret("int32", x.vload([index], "uint8x4"))
        return [tirx.reinterpret(f"int8x{isa.bytes}", tirx.Broadcast(quad, isa.lanes))]

    return Dot(isa, 4, 1, "int8", "int32", broadcast, isa.dot_bytes)


def _cycles(pixels: int, vectors: int, steps: int) -> float:
    """Two dots a cycle, five cycles latency; the epilogue costs about 3.5 cycles a vector.

    Every vector of channels is one more stream of weights: beyond four they slow each other.
    """
    dots, loads = pixels * vectors, pixels + vectors
    streams = 1 + 0.05 * max(0, vectors - 4)
    return steps * max(dots / 2, loads / 1.6, 5.0) * streams + dots * 3.5 + 25
