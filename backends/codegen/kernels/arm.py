"""uint8 x int8 convolution for 64-bit ARM: usdot, sdot, or plain NEON, all exact.

The latter two multiply int8 by int8: 128 is taken off every code, and what that takes off the sum
is in the bias (``template.start``).  Where the runs of the reduction are long, sixteen codes of
a pixel are loaded at once and each four of them are an operand by lane; else four at a time.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .conv import ConvWorkload, collapse, runs_of
from .depthwise import Depthwise
from .isa import Expr, shuffle, splat
from .neon import Neon
from .register_tile import Dot, RegisterConv

_ISA = Neon()
_WIDE = 16
_FREE = 26
"""Vector registers for accumulators, codes and weights."""


def step_of(workload: ConvWorkload) -> int:
    """Codes that one load takes: 16 where the runs are a multiple of that, else 4."""
    return _WIDE if runs_of(collapse(workload)).length % _WIDE == 0 else 4


def usdot(step: int = _WIDE) -> RegisterConv:
    """The template for cpus with i8mm; ``step``: 16 or 4."""
    dot = Dot(
        _ISA, step, step // 4, "int8", "int32", _quads(step, False), _ISA.dot_mixed,
        arrange=_by_quads, by_parts=True,
    )  # fmt: skip
    return RegisterConv(dot, 20, _cycles_dot(step // 4))


def sdot(step: int = _WIDE) -> RegisterConv:
    """The template for cpus with dotprod; ``step``: 16 or 4."""
    dot = Dot(
        _ISA, step, step // 4, "int8", "int32", _quads(step, True), _ISA.dot_bytes,
        shift=128, arrange=_by_quads, by_parts=True,
    )  # fmt: skip
    return RegisterConv(dot, 20, _cycles_dot(step // 4))


def neon(step: int = _WIDE, isa: Neon = _ISA, accumulators: int = 10) -> RegisterConv:
    """The template for armv8.0, or armv7 with its ``isa``; ``step``: 16 or 4.

    Two products fit int16 together, since weights are above -128 (``2 * 128 * 127 < 2**15``):
    smull, smlal2 and one sadalp for four products in each lane.
    """

    def broadcast(x: Expr, index: Expr) -> list[Expr]:
        codes = _codes(x, index, step, True)
        halves = ([at, at + 1] * 4 + [at + 2, at + 3] * 4 for at in range(0, step, 4))
        return [shuffle([codes], pattern) for pattern in halves]

    def add(acc: Expr, pixel: Expr, weights: Expr) -> Expr:
        low, high = (
            isa.multiply(*(shuffle([v], range(at, at + 8)) for v in (pixel, weights)))
            for at in (0, 8)
        )
        return isa.add_pairs(acc, low + high)

    dot = Dot(
        isa, step, step // 4, "int8", "int32", broadcast, add,
        shift=128, least=-127, arrange=_by_pairs, by_parts=True,
    )  # fmt: skip
    # More accumulators are spilled for the products.
    return RegisterConv(dot, accumulators, _cycles_plain(step // 4))


def depthwise_usdot() -> Depthwise:
    """Depthwise convolutions for cpus with i8mm."""
    return Depthwise(4, lambda _: _Mixed())


def depthwise_sdot() -> Depthwise:
    """Depthwise convolutions for cpus with dotprod."""
    return Depthwise(4, lambda _: _Signed(), shift=128)


class _Mixed(Neon):
    def dot_bytes(self, acc: Expr, unsigned: Expr, weights: Expr) -> Expr:
        return self.dot_mixed(acc, unsigned, weights)


class _Signed(Neon):
    def dot_bytes(self, acc: Expr, codes: Expr, weights: Expr) -> Expr:
        return super().dot_bytes(acc, tirx.reinterpret("int8x16", codes), weights)


def _quads(step: int, signed: bool) -> Callable[[Expr, Expr], list[Expr]]:
    """Every four of ``step`` adjacent codes in all lanes."""

    def broadcast(x: Expr, index: Expr) -> list[Expr]:
        codes = _codes(x, index, step, signed)
        return [shuffle([codes], [*range(at, at + 4)] * 4) for at in range(0, step, 4)]

    return broadcast


def _codes(x: Expr, index: Expr, step: int, signed: bool) -> Expr:
    """16 adjacent codes, or 4 of them four times; less 128, as int8, if ``signed``."""
    codes = x.vload([index], f"uint8x{step}")
    if step == 4:
        quad = tirx.Broadcast(tirx.reinterpret("uint32", codes), 4)
        codes = tirx.reinterpret("uint8x16", quad)
    if signed:
        codes = tirx.reinterpret("int8x16", codes ^ splat(128, "uint8", 16))
    return I.bind(codes)


def _by_quads(steps: NDArray[np.generic], parts: int) -> NDArray[np.generic]:
    """Part ``p`` has the ``p``-th four elements of every lane."""
    split = steps.reshape(*steps.shape[:-1], parts, 4)
    return np.moveaxis(split, -2, -3)


def _by_pairs(steps: NDArray[np.generic], parts: int) -> NDArray[np.generic]:
    """As ``_by_quads``, the first two of the four of all lanes before the last two."""
    split = steps.reshape(*steps.shape[:-1], parts, 2, 2)
    return np.moveaxis(split, -4, -2)


def _cycles_dot(quads: int) -> Callable[[int, int, int], float]:
    """Two dots a cycle, three instructions of any kind; what exceeds the registers is spilled."""

    def cycles(pixels: int, vectors: int, steps: int) -> float:
        dots = quads * pixels * vectors
        spills = max(0, pixels * vectors + pixels + vectors - _FREE)
        other = pixels * (2 if quads > 1 else 3) + quads * vectors + 4 + 2 * spills
        return steps * max(dots / 2, (dots + other) / 3) + pixels * vectors * 3 + 15

    return cycles


def _cycles_plain(quads: int) -> Callable[[int, int, int], float]:
    """Three instructions for every four products of a lane; one a cycle on an in-order core."""

    def cycles(pixels: int, vectors: int, steps: int) -> float:
        products = 3 * quads * pixels * vectors
        other = pixels * (2 + quads) + 2 * quads * vectors + 4
        return steps * (products + other) + pixels * vectors * 8 + 40

    return cycles
