"""The product with a Hadamard matrix: rows side by side in vectors, butterflies between them.

``H`` is a Kronecker product of a matrix of order ``2^k`` and a small core, so a row costs
``size * (k + core)`` additions and not ``size^2``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ...ir.ops.base import Op
from .layout import Strided
from .loops import Expr, Frame, index_of, local, unravel
from .pointwise import f32, i32

LANES = 16
"""Rows of a block: no butterfly crosses lanes, whatever its stride."""

CACHE = 8192
"""Numbers that a block holds at most."""


@dataclass(frozen=True)
class Butterfly(Op):
    """``Hadamard``, whose second operand is the core over the root of the size, ``[core, core]``.

    ``power``: the order of the other factor.
    """

    power: int = 1


def emit_butterfly(
    op: Butterfly, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]
) -> int:
    """One iteration is a block of rows (``fine``: one row)."""
    x, y = ins[0], outs[0]
    size, core = x.shape[-1], ins[1].shape[0]
    rows = prod(x.shape[:-1])
    width = 1 if frame.fine else max(1, min(LANES, rows, CACHE // size))
    held, made = local(core * width, "float32"), local(size * width, "float32")

    def at(view: Strided, row: Expr, channel: Expr) -> Expr:
        before = unravel(row, view.shape[:-1]) if view.rank > 1 else []
        return index_of([*before, channel], view.strides)

    with I.serial(frame.lo, frame.hi) as step:
        first = I.bind(tirx.min(step * i32(width), i32(rows - width)))
        with I.serial(0, op.power) as block:
            with I.serial(0, core) as j, I.serial(0, width) as k:
                value = frame.load(0, at(x, first + k, block * core + j))
                I.buffer_store(held, value, [j * width + k])
            with I.serial(0, core) as column:
                start = (block * core + column) * width
                with I.serial(0, width) as k:
                    I.buffer_store(made, f32(0), [start + k])
                with I.serial(0, core) as j:
                    factor = I.bind(frame.load(1, j * core + column))
                    with I.serial(0, width) as k:
                        total = made[start + k] + held[j * width + k] * factor
                        I.buffer_store(made, total, [start + k])
        _butterflies(made, core * width, op.power)
        with I.serial(0, size) as channel, I.serial(0, width) as k:
            frame.store(made[channel * width + k], at(y, first + k, channel))
    return -(-rows // width)


def _butterflies(made: Expr, run: int, power: int) -> None:
    """Sums and differences of runs that lie 1, 2, 4, ... runs apart."""
    apart = 1
    while apart < power:
        reach = apart * run
        with I.serial(0, power // (2 * apart)) as block, I.serial(0, reach) as i:
            a = I.bind(block * (2 * reach) + i)
            left, right = I.bind(made[a]), I.bind(made[a + reach])
            I.buffer_store(made, left + right, [a])
            I.buffer_store(made, left - right, [a + reach])
        apart *= 2
