"""Reductions over axes of a strided tensor.

Where the innermost axis is kept, a block of accumulators runs beside it; where it is reduced, the
sum is cut into partial sums.  Both let LLVM vectorize without reordering anything that matters:
float sums are reassociated only this way, which is fixed at compile time.
"""

from collections.abc import Callable
from contextlib import ExitStack
from math import prod

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .layout import Strided
from .loops import Expr, Frame, index_of, local
from .loops import merge as merged

BLOCK = 64
PARTS = 16

Combine = Callable[[Expr, Expr], Expr]
"""From the accumulator and an element to the accumulator."""


def reduce(
    frame: Frame,
    x: Strided,
    out: Strided,
    axes: tuple[int, ...],
    start: Expr,
    combine: Combine,
    finish: Callable[[Expr], Expr],
    merge: Combine | None = None,
) -> int:
    """Reduce operand 0 over ``axes`` to ``out`` (of any shape with the kept axes' elements).

    ``merge`` joins two accumulators (default: ``combine``); the extent is returned.
    """
    kept = [i for i in range(x.rank) if i not in axes and x.shape[i] != 1]
    small = [i for i in range(out.rank) if out.shape[i] != 1]
    strides_out = [out.strides[i] for i in small]
    shape = [x.shape[i] for i in kept]
    inner = None if frame.fine else _innermost(x, kept)
    if inner is not None:
        return _beside(frame, x, axes, kept, strides_out, inner, start, combine, finish)
    return _rows(
        frame, x, axes, [x.strides[i] for i in kept], strides_out, shape, start, combine, finish,
        merge or combine,
    )  # fmt: skip


def _innermost(x: Strided, kept: list[int]) -> int | None:
    """Position in ``kept`` of the contiguous axis, if it is long enough to run beside."""
    for position, axis in enumerate(kept):
        if x.strides[axis] == 1 and x.shape[axis] >= 4:
            return position
    return None


def _beside(
    frame: Frame,
    x: Strided,
    axes: tuple[int, ...],
    kept: list[int],
    strides_out: list[int],
    inner: int,
    start: Expr,
    combine: Combine,
    finish: Callable[[Expr], Expr],
) -> int:
    """Blocks of accumulators along the contiguous kept axis."""
    width = x.shape[kept[inner]]
    block = min(BLOCK, width)
    blocks = -(-width // block)
    others = [i for i in range(len(kept)) if i != inner]
    sizes = [x.shape[kept[i]] for i in others]
    total = prod(sizes) * blocks
    acc = local(block, start.ty.dtype)
    with I.serial(frame.lo, frame.hi) as step:
        first = tirx.min(tirx.truncmod(step, blocks) * block, width - block) if blocks > 1 else 0
        first = I.bind(tirx.Cast("int32", first)) if blocks > 1 else tirx.const(0, "int32")
        rest = tirx.truncdiv(step, blocks)
        at: list[Expr] = []
        for size in reversed(sizes):
            at.insert(0, tirx.truncmod(rest, size))
            rest = tirx.truncdiv(rest, size)
        base = I.bind(index_of(at, [x.strides[kept[i]] for i in others]) + first)
        there = I.bind(index_of(at, [strides_out[i] for i in others]) + first * strides_out[inner])
        with I.serial(0, block) as c:
            I.buffer_store(acc, start, [c])
        loops = merged([x.shape[i] for i in axes], [[x.strides[i] for i in axes]])
        with ExitStack() as stack:
            r = [stack.enter_context(I.serial(0, d)) for d in loops.shape]
            index = index_of(r, loops.strides[0])
            with I.serial(0, block) as c:
                I.buffer_store(acc, combine(acc[c], frame.load(0, base + index + c)), [c])
        with I.serial(0, block) as c:
            frame.store(finish(acc[c]), there + c * strides_out[inner])
    return total


def _rows(
    frame: Frame,
    x: Strided,
    axes: tuple[int, ...],
    strides: list[int],
    strides_out: list[int],
    shape: list[int],
    start: Expr,
    combine: Combine,
    finish: Callable[[Expr], Expr],
    merge: Combine,
) -> int:
    """One result after the other."""
    total = prod(shape)
    with I.serial(frame.lo, frame.hi) as step:
        rest: Expr = step
        at: list[Expr] = []
        for size in reversed(shape):
            at.insert(0, tirx.truncmod(rest, size))
            rest = tirx.truncdiv(rest, size)
        base = I.bind(index_of(at, strides))
        loops = merged([x.shape[i] for i in axes], [[x.strides[i] for i in axes]])
        value = fold(
            list(loops.shape), list(loops.strides[0]), start, merge,
            lambda acc, index: combine(acc, frame.load(0, base + index)),
        )  # fmt: skip
        frame.store(finish(value), index_of(at, strides_out))
    return total


def fold(
    shape: list[int],
    strides: list[int],
    start: Expr,
    merge: Combine,
    step: Callable[[Expr, Expr], Expr],
) -> Expr:
    """Emit a reduction over ``shape`` in ``PARTS`` interleaved parts; the accumulator's value.

    ``step(acc, index)`` is the new accumulator for the element at ``index``.
    """
    dtype = start.ty.dtype
    parts = min(PARTS, shape[-1])
    acc = local(parts, dtype)
    with I.serial(0, parts) as p:
        I.buffer_store(acc, start, [p])
    whole, tail = shape[-1] // parts, shape[-1] % parts
    with ExitStack() as stack:
        outer = [stack.enter_context(I.serial(0, d)) for d in shape[:-1]]
        base = index_of(outer, strides[:-1])
        with I.serial(0, whole) as i, I.serial(0, parts) as p:
            I.buffer_store(acc, step(acc[p], base + (i * parts + p) * strides[-1]), [p])
        if tail:
            with I.serial(0, tail) as p:
                I.buffer_store(acc, step(acc[p], base + (whole * parts + p) * strides[-1]), [p])
    with I.serial(1, parts) as p:
        I.buffer_store(acc, merge(acc[0], acc[p]), [0])
    return I.bind(acc[0])
