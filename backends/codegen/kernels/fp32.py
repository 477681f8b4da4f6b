"""float32 convolution with fused multiply-add, for any vectors."""

from functools import partial

from tvm import tirx

from .isa import Expr, Isa, call
from .register_tile import Dot, RegisterConv


def fp32(isa: Isa, accumulators: int, rate: float = 2.0) -> RegisterConv:
    """The template for vectors of ``isa``; ``rate``: multiply-adds a cycle.

    Its workloads have a ``FloatEpilogue`` and its kernels no multiplier.
    """
    lanes = isa.lanes
    dtype = f"float32x{lanes}"

    def broadcast(x: Expr, index: Expr) -> list[Expr]:
        return [tirx.Broadcast(x[index], lanes)]

    def add(acc: Expr, pixel: Expr, weights: Expr) -> Expr:
        return call(dtype, "llvm.fma", pixel, weights, acc)

    dot = Dot(isa, 1, 1, "float32", "float32", broadcast, add)
    return RegisterConv(dot, accumulators, partial(_cycles, rate))


def _cycles(rate: float, pixels: int, vectors: int, steps: int) -> float:
    """Four cycles latency."""
    dots, loads = pixels * vectors, pixels + vectors
    return steps * max(dots / rate, loads / 1.6, 4.0) + dots * 1.0 + 20
