"""Codes by the range that the elements of a row have at run time: two passes over memory.

Where rows lie beside each other (channels that have a scale each, innermost in memory), a block of
them goes through both passes together; else one row after the other.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .layout import Strided
from .loops import Expr, Frame, index_of, local, merge, unravel
from .pointwise import f32, i32
from .rowwise import Row, rows

BLOCK = 32
"""Rows that go through both passes together."""

PARTS = 32
"""Partial ranges of one row."""


def emit_dynamic_quantize(
    op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]
) -> int:
    """Results: codes, scale, zero point."""
    x, axis = ins[0], op.axis % ins[0].rank
    beside = axis - 1
    if beside >= 0 and x.strides[beside] == 1 and outs[0].strides[beside] == 1:
        return _beside(frame, x, outs, axis)
    return _one_by_one(frame, x, outs, axis)


def _one_by_one(frame: Frame, x: Strided, outs: Sequence[Strided], axis: int) -> int:
    codes, scales, zeros = outs
    with rows(frame, x.shape, tuple(range(axis, x.rank))) as (row, count):
        low, high = _extremes(frame, x, axis, row)
        scale, zero = _grid(low, high)
        frame.store(scale, row.base(scales), 1)
        frame.store(tirx.Cast("uint8", zero), row.base(zeros), 2)
        bottom = I.bind(tirx.Cast("float32", -zero))
        with row.elements(x, codes) as (i, o):
            frame.store(_code(frame.load(0, i), scale, zero, bottom), o)
    return count


def _extremes(frame: Frame, x: Strided, axis: int, row: Row) -> tuple[Expr, Expr]:
    """The least and the greatest element of a row, and zero, in one pass."""
    if row.me is not None:
        return tuple(row.fold(frame, x, f32(0), best, _real) for best in (tirx.min, tirx.max))
    loops, base = merge(x.shape[axis:], [x.strides[axis:]]), row.base(x)
    shape, strides = loops.shape, loops.strides[0]
    parts = min(PARTS, shape[-1])
    low, high = local(parts, "float32"), local(parts, "float32")
    base = I.bind(base)
    with I.serial(0, parts) as p:
        I.buffer_store(low, f32(0), [p])
        I.buffer_store(high, f32(0), [p])

    def look(p: Expr, index: Expr) -> None:
        value = I.bind(_real(frame.load(0, index)))
        I.buffer_store(low, tirx.min(low[p], value), [p])
        I.buffer_store(high, tirx.max(high[p], value), [p])

    whole, tail = shape[-1] // parts, shape[-1] % parts
    with ExitStack() as stack:
        outer = [stack.enter_context(I.serial(0, d)) for d in shape[:-1]]
        start = I.bind(base + index_of(outer, strides[:-1]))
        with I.serial(0, whole) as i, I.serial(0, parts) as p:
            look(p, start + (i * parts + p) * strides[-1])
        if tail:
            with I.serial(0, tail) as p:
                look(p, start + (whole * parts + p) * strides[-1])
    with I.serial(1, parts) as p:
        I.buffer_store(low, tirx.min(low[0], low[p]), [0])
        I.buffer_store(high, tirx.max(high[0], high[p]), [0])
    return I.bind(low[0]), I.bind(high[0])


def _real(value: Expr) -> Expr:
    return tirx.Cast("float32", value)


def _beside(frame: Frame, x: Strided, outs: Sequence[Strided], axis: int) -> int:
    """Blocks of rows whose elements are adjacent in memory."""
    codes, scales, zeros = outs
    width = x.shape[axis - 1]
    block = 1 if frame.fine else min(BLOCK, width)
    blocks, lead = -(-width // block), x.shape[: axis - 1]
    low, high, bottom = (local(block, "float32") for _ in range(3))
    with I.serial(frame.lo, frame.hi) as step:
        *at, part = unravel(step, (*lead, blocks))
        first = I.bind(tirx.min(part * block, width - block)) if blocks > 1 else i32(0)
        before = [*at, first]
        bases = [I.bind(index_of(before, v.strides[:axis])) for v in (x, codes, scales, zeros)]
        with I.serial(0, block) as c:
            I.buffer_store(low, f32(0), [c])
            I.buffer_store(high, f32(0), [c])
        with _elements(axis, x, x) as (i, _), I.serial(0, block) as c:
            value = I.bind(tirx.Cast("float32", frame.load(0, bases[0] + i + c)))
            I.buffer_store(low, tirx.min(low[c], value), [c])
            I.buffer_store(high, tirx.max(high[c], value), [c])
        with I.serial(0, block) as c:
            scale, zero = _grid(low[c], high[c])
            frame.store(scale, bases[2] + c * scales.strides[axis - 1], 1)
            frame.store(tirx.Cast("uint8", zero), bases[3] + c * zeros.strides[axis - 1], 2)
            I.buffer_store(high, scale, [c])
            I.buffer_store(bottom, tirx.Cast("float32", -zero), [c])
        with _elements(axis, x, codes) as (i, o), I.serial(0, block) as c:
            zero = tirx.Cast("int32", -bottom[c])
            code = _code(frame.load(0, bases[0] + i + c), high[c], zero, bottom[c])
            frame.store(code, bases[1] + o + c)
    return prod(lead) * blocks


@contextmanager
def _elements(axis: int, *views: Strided) -> Iterator[list[Expr]]:
    """Loop over the axes from ``axis`` on; yields the index in each view."""
    loops = merge(views[-1].shape[axis:], [v.strides[axis:] for v in views])
    with ExitStack() as stack:
        r = [stack.enter_context(I.serial(0, d)) for d in loops.shape]
        yield [I.bind(index_of(r, s)) for s in loops.strides]


def _grid(low: Expr, high: Expr) -> tuple[Expr, Expr]:
    """Scale and zero point for a range that holds zero."""
    raw = I.bind((high - low) / f32(255))
    scale = I.bind(tirx.Select(raw > f32(0), raw, f32(1)))
    limit = tirx.min(tirx.max(-low / scale, f32(0)), f32(255))
    return scale, I.bind(tirx.Cast("int32", tirx.nearbyint(limit)))


def _code(value: Expr, scale: Expr, zero: Expr, bottom: Expr) -> Expr:
    """``clip(rint(value / scale) + zero, 0, 255)``; ``bottom`` is ``-zero`` in float32."""
    steps = tirx.nearbyint(tirx.Cast("float32", value) / scale)
    steps = tirx.min(tirx.max(steps, bottom), bottom + f32(255))
    return tirx.Cast("uint8", tirx.Cast("int32", steps) + zero)
