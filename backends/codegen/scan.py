"""The selective scan: blocks of channels walk through time, their states in registers and cache.

The channels of a block run side by side in vectors, so no sum crosses lanes; the powers are taken
to base 2, for which ``A`` is scaled once per block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import e, log2

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ...ir.ops.base import Op
from . import functions as fn
from .layout import Strided
from .loops import Expr, Frame, index_of, local
from .pointwise import f32, i32

LANES = 16
"""Channels of a block: two vectors of AVX2 or four of NEON, so that their latencies overlap."""

CACHE = 4096
"""States that a block holds at most."""

REQUIRED = ("u", "delta", "a", "b", "c")
OPTIONAL = ("d", "z", "bias", "start", "slope")


@dataclass(frozen=True)
class BlockedScan(Op):
    """``SelectiveScan`` with the names of those of its ``OPTIONAL`` operands that there are.

    The last state is a result only where somebody reads it.
    """

    softplus: bool = False
    reverse: bool = False
    optional: tuple[str, ...] = ()


def emit_scan(
    op: BlockedScan, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]
) -> int:
    """One iteration is a block of channels of one sample (``fine``: one channel)."""
    names = [*REQUIRED, *op.optional]
    views = dict(zip(names, ins, strict=True))
    batch, length, channels = views["u"].shape
    states = views["a"].shape[1]
    width = 1 if frame.fine else max(1, min(LANES, channels, CACHE // states))
    blocks = -(-channels // width)
    state, powers = local(states * width, "float32"), local(states * width, "float32")
    delta, moved, total = (local(width, "float32") for _ in range(3))

    def read(name: str, *at: Expr) -> Expr:
        return frame.load(names.index(name), index_of(at, views[name].strides))

    with I.serial(frame.lo, frame.hi) as step:
        sample = I.bind(tirx.truncdiv(step, i32(blocks)))
        first = I.bind(
            tirx.min(tirx.truncmod(step, i32(blocks)) * i32(width), i32(channels - width))
        )
        with I.serial(0, states) as n, I.serial(0, width) as k:
            begin = read("start", sample, first + k, n) if "start" in views else f32(0)
            I.buffer_store(state, begin, [n * width + k])
            I.buffer_store(powers, read("a", first + k, n) * f32(log2(e)), [n * width + k])
        with I.serial(0, length) as i:
            t = i32(length - 1) - i if op.reverse else i
            with I.serial(0, width) as k:
                rate = read("delta", sample, t, first + k)
                rate = rate + read("bias", first + k) if "bias" in views else rate
                rate = fn.softplus(rate) if op.softplus else rate
                I.buffer_store(delta, rate, [k])
                I.buffer_store(moved, delta[k] * read("u", sample, t, first + k), [k])
                I.buffer_store(total, f32(0), [k])
            with I.serial(0, states) as n:
                b, c = I.bind(read("b", sample, t, n)), I.bind(read("c", sample, t, n))
                with I.serial(0, width) as k:
                    at = n * width + k
                    kept = fn.exp2(delta[k] * powers[at]) * state[at]
                    I.buffer_store(state, kept + moved[k] * b, [at])
                    I.buffer_store(total, total[k] + state[at] * c, [k])
            with I.serial(0, width) as k:
                y = total[k]
                if "d" in views:
                    y = y + read("d", first + k) * read("u", sample, t, first + k)
                if "z" in views:
                    z = read("z", sample, t, first + k)
                    steep = "slope" in views
                    gate = z * fn.sigmoid(read("slope", first + k) * z) if steep else fn.silu(z)
                    y = y * gate
                frame.store(y, index_of((sample, t, first + k), outs[0].strides))
        if len(outs) > 1:
            with I.serial(0, states) as n, I.serial(0, width) as k:
                at = index_of((sample, first + k, n), outs[1].strides)
                frame.store(state[n * width + k], at, 1)
    return batch * blocks
