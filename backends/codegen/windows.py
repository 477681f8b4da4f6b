"""Pooling: a window over the spatial axes of an image, and means over whole maps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from math import prod
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ...ir.ops.integer import QAveragePool
from .layout import Strided
from .loops import Expr, Frame, index_of, unravel
from .pointwise import f64, i32, least
from .reduction import reduce

MOST_TAPS = 64
"""Windows with more taps than this are summed in a loop."""

Index = list[Expr]


@contextmanager
def points(out: Strided, frame: Frame) -> Iterator[tuple[Index, int]]:
    """Loops over all elements of ``out`` in the order of memory; yields coordinates and extent."""
    order = sorted(range(out.rank), key=lambda i: (-out.strides[i], i))
    if frame.fine:
        with I.serial(frame.lo, frame.hi) as step:
            found = dict(zip(order, unravel(step, [out.shape[i] for i in order]), strict=True))
            yield [found[i] for i in range(out.rank)], out.size
        return
    outer = next((i for i in order if out.shape[i] != 1), order[0])
    with ExitStack() as stack:
        at: dict[int, Expr] = {}
        for axis in order:
            if axis == outer:
                at[axis] = stack.enter_context(I.serial(frame.lo, frame.hi))
            elif out.shape[axis] == 1:
                at[axis] = i32(0)
            else:
                at[axis] = stack.enter_context(I.serial(0, out.shape[axis]))
        yield [at[i] for i in range(out.rank)], out.shape[outer]


def emit_max_pool(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """Greatest element under the window.

    Without dilation a tap outside the map is moved to the nearest one inside the window.
    """
    x, out = ins[0], outs[0]
    moved = all(d == 1 for d in op.dilations)
    lowest = least(x.dtype)
    with points(out, frame) as (at, extent):
        best: Expr | None = None
        for tap in _taps(op):
            spot, inside = _spot(op, x, at, tap, moved)
            value = frame.load(0, index_of(spot, x.strides))
            if not moved and inside is not None:
                value = tirx.Select(inside, value, lowest)
            best = value if best is None else tirx.max(best, value)
        frame.store(best, index_of(at, out.strides))
    return extent


def emit_average_pool(
    op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]
) -> int:
    """Float mean under the window; padding counts if ``count_include_pad``."""
    x, out = ins[0], outs[0]
    with points(out, frame) as (at, extent):
        total, count = _total(op, frame, x, at, f64(0), f64(1), lambda v: tirx.Cast("float64", v))
        if op.count_include_pad:
            count = _count_with_pads(op, x, at)
        frame.store(total / tirx.max(count, f64(1)), index_of(at, out.strides))
    return extent


def emit_qaverage_pool(
    op: QAveragePool, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]
) -> int:
    """Fixed point mean of codes."""
    x, out = ins[0], outs[0]
    whole = not any(op.pads) and op.kernel == x.shape[2:]
    if whole and prod(op.kernel) > 1:
        return _whole_map(op, frame, x, out)
    narrow, dtype = _accumulators(op, x.dtype)

    def widen(v: Expr) -> Expr:
        return tirx.Cast(narrow, v) - tirx.const(op.in_zero_point, narrow)

    with points(out, frame) as (at, extent):
        total, count = _total(op, frame, x, at, tirx.const(0, narrow), i32(1), widen)
        factor: Expr = tirx.const(0, dtype)
        for number, multiplier in op.multipliers:
            factor = tirx.Select(count == number, tirx.const(multiplier, dtype), factor)
        frame.store(_scaled(op, total, factor, dtype), index_of(at, out.strides))
    return extent


def _whole_map(op: QAveragePool, frame: Frame, x: Strided, out: Strided) -> int:
    (narrow, dtype), count = _accumulators(op, x.dtype), prod(op.kernel)
    factor = tirx.const(dict(op.multipliers)[count], dtype)

    def finish(total: Expr) -> Expr:
        return _scaled(op, total - tirx.const(op.in_zero_point * count, narrow), factor, dtype)

    return reduce(
        frame, x, out, tuple(range(2, x.rank)),
        tirx.const(0, narrow), lambda a, v: a + tirx.Cast(narrow, v), finish,
    )  # fmt: skip


def _scaled(op: QAveragePool, total: Expr, factor: Expr, dtype: str) -> Expr:
    sum_ = tirx.Cast(dtype, total) * factor + tirx.const(op.constant, dtype)
    shifted = tirx.shift_right(sum_, tirx.const(op.shift, dtype))
    low, high = tirx.const(op.low, dtype), tirx.const(op.high, dtype)
    return tirx.Cast(op.dtype, tirx.min(tirx.max(shifted, low), high))


def _accumulators(op: QAveragePool, dtype: str) -> tuple[str, str]:
    """The types of the sum and of its product: int32 where that cannot overflow, else int64."""
    top = 2 ** (8 if dtype == "uint8" else 16) - 1
    counts = [n for n, _ in op.multipliers]
    product = max(abs(m) * n for n, m in op.multipliers) * top + abs(op.constant)
    return _narrowest(top * max(counts)), _narrowest(product)


def _narrowest(bound: int) -> str:
    return "int32" if bound < 2**31 else "int64"


def _taps(op: Any) -> list[tuple[int, ...]]:
    return list(product(*map(range, op.kernel)))


def _spot(
    op: Any, x: Strided, at: Index, tap: tuple[int, ...], moved: bool = True
) -> tuple[Index, Expr | None]:
    """Coordinates of a tap, moved into the map, and whether it was inside (None: always)."""
    dilations = getattr(op, "dilations", (1,) * len(tap))
    spot, inside = [at[0], at[1]], None
    for i, t in enumerate(tap):
        size, stride, pad = x.shape[i + 2], op.strides[i], op.pads[i]
        place = at[i + 2] * stride + (t * dilations[i] - pad)
        last = (_steps(op, x, i) - 1) * stride + t * dilations[i] - pad
        checks = []
        if t * dilations[i] < pad:
            checks.append(place >= 0)
            place = tirx.max(place, i32(0))
        if last >= size:
            checks.append(at[i + 2] * stride + (t * dilations[i] - pad) < size)
            place = tirx.min(place, i32(size - 1))
        for check in checks:
            inside = check if inside is None else tirx.And(inside, check)
        spot.append(place)
    return spot, inside


def _steps(op: Any, x: Strided, i: int) -> int:
    from ...ir.ops.base import window_output

    n = len(op.kernel)
    dilation = getattr(op, "dilations", (1,) * n)[i]
    pads = (op.pads[i], op.pads[i + n])
    return window_output(x.shape[i + 2], op.kernel[i], op.strides[i], pads, dilation, op.ceil_mode)


def _total(
    op: Any,
    frame: Frame,
    x: Strided,
    at: Index,
    zero: Expr,
    one: Expr,
    widen: Callable[[Expr], Expr],
) -> tuple[Expr, Expr]:
    """Sum and number of the elements under the window that are inside the map."""
    total, count = zero, zero
    for tap in _taps(op):
        spot, inside = _spot(op, x, at, tap)
        value = widen(frame.load(0, index_of(spot, x.strides)))
        total = total + (value if inside is None else tirx.Select(inside, value, zero))
        count = count + (one if inside is None else tirx.Select(inside, one, zero))
    return total, count


def _count_with_pads(op: Any, x: Strided, at: Index) -> Expr:
    """Elements under the window that are inside the padded map."""
    n, count = len(op.kernel), f64(1)
    for i in range(n):
        end = x.shape[i + 2] + op.pads[i] + op.pads[i + n]
        along: Expr = f64(0)
        for t in range(op.kernel[i]):
            inside = at[i + 2] * op.strides[i] + t * op.dilations[i] < end
            along = along + tirx.Select(inside, f64(1), f64(0))
        count = count * along
    return count


def emit_global(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """``GlobalAveragePool`` and ``GlobalMaxPool``."""
    x, axes = ins[0], tuple(range(2, ins[0].rank))
    if op.name == "GlobalMaxPool":
        start = least(x.dtype)
        return reduce(frame, x, outs[0], axes, start, lambda a, v: tirx.max(a, v), lambda t: t)
    count = float(np.prod(x.shape[2:]))
    return reduce(
        frame, x, outs[0], axes, f64(0),
        lambda a, v: a + tirx.Cast("float64", v), lambda t: t / f64(count),
    )  # fmt: skip
