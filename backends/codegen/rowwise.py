"""Ops that need several passes over the same elements: softmax, normalisation, dynamic ranges."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as I

from . import functions as fn
from . import team
from .layout import Strided
from .loops import Expr, Frame, Nest, index_of, merge
from .pointwise import f32, i32
from .reduction import Combine, fold


@dataclass(frozen=True)
class Row:
    """The elements that are treated together: indices of their first one, and the axes in them.

    ``me``: the number of this thread, where a team of threads shares the row.
    """

    at: list[Expr]
    axes: tuple[int, ...]
    me: Expr = None

    def base(self, view: Strided) -> Expr:
        """Index of the row's first element in ``view``."""
        return index_of(self.at, view.strides)

    def fold(
        self, frame: Frame, x: Strided, start: Expr, merge_: Combine,
        term: Callable[[Expr], Expr], operand: int = 0,
    ) -> Expr:  # fmt: skip
        """Reduce ``term`` of the row's elements."""
        loops = merge([x.shape[i] for i in self.axes], [[x.strides[i] for i in self.axes]])
        base = I.bind(self.base(x))

        def step(acc: Expr, index: Expr) -> Expr:
            return merge_(acc, term(frame.load(operand, base + index)))

        return self.reduce(loops, start, merge_, step)

    def reduce(self, loops: Nest, start: Expr, merge_: Combine, step: Combine) -> Expr:
        """Emit a reduction over the points of ``loops``."""
        shape, strides = list(loops.shape), list(loops.strides[0])
        if self.me is not None:
            return team.fold(self.me, shape, strides, start, merge_, step)
        return fold(shape, strides, start, merge_, step)

    @contextmanager
    def elements(self, *views: Strided) -> Iterator[list[Expr]]:
        """Loop over the row; yields the index in each view (the last decides the order)."""
        shape = [views[-1].shape[i] for i in self.axes]
        loops = merge(shape, [[v.strides[i] for i in self.axes] for v in views])
        bases = [I.bind(self.base(v)) for v in views]
        with ExitStack() as stack:
            if self.me is not None:
                r = stack.enter_context(team.share(self.me, loops.shape))
            else:
                r = [stack.enter_context(I.serial(0, d)) for d in loops.shape]
            yield [b + index_of(r, s) for b, s in zip(bases, loops.strides, strict=True)]


@contextmanager
def rows(frame: Frame, shape: tuple[int, ...], axes: tuple[int, ...]) -> Iterator[tuple[Row, int]]:
    """Loop over all rows along ``axes``; yields the row and the number of rows."""
    kept = [d if i not in axes else 1 for i, d in enumerate(shape)]
    with ExitStack() as stack:
        me = stack.enter_context(team.team()) if frame.fine else None
        step = stack.enter_context(I.serial(frame.lo, frame.hi))
        at: list[Expr] = []
        rest: Any = step
        for size in reversed(kept):
            at.insert(0, tirx.truncmod(rest, size) if size != 1 else i32(0))
            rest = tirx.truncdiv(rest, size) if size != 1 else rest
        yield Row(at, axes, me), prod(kept)


def _add(a: Expr, b: Expr) -> Expr:
    return a + b


def emit_softmax(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """``Softmax``, ``LogSoftmax``."""
    x, y = ins[0], outs[0]
    with rows(frame, x.shape, (op.axis % x.rank,)) as (row, count):
        top = row.fold(frame, x, tirx.min_value("float32"), tirx.max, lambda v: v)
        if op.name == "LogSoftmax":
            total = row.fold(frame, x, f32(0), _add, lambda v: fn.exp(v - top))
            shift = I.bind(fn.libm("logf", total))
            with row.elements(x, y) as (i, o):
                frame.store(frame.load(0, i) - top - shift, o)
            return count
        with row.elements(x, y) as (i, o):
            frame.store(fn.exp(frame.load(0, i) - top), o)
        total = _fold_result(frame, row, y)
        with row.elements(y) as (o,):
            frame.store(frame.outs[0][o] / total, o)
    return count


def _fold_result(frame: Frame, row: Row, y: Strided) -> Expr:
    """Sum of the row's elements of the result."""
    loops = merge([y.shape[i] for i in row.axes], [[y.strides[i] for i in row.axes]])
    base = I.bind(row.base(y))
    return row.reduce(loops, f32(0), _add, lambda acc, index: acc + frame.outs[0][base + index])


def emit_qsoftmax(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """Tables of exp, integer sum, one division."""
    x, y = ins[0], outs[0]

    def power(code: Expr, top: Expr) -> Expr:
        d = tirx.min(top - tirx.Cast("int32", code), i32(65535))
        high = frame.load(1, tirx.shift_right(d, i32(8)))
        low = frame.load(2, tirx.bitwise_and(d, i32(255)))
        wide = tirx.Cast("uint64", high) * tirx.Cast("uint64", low)
        return tirx.shift_right(wide, tirx.const(31, "uint64"))

    with rows(frame, x.shape, (op.axis % x.rank,)) as (row, count):
        top = row.fold(frame, x, i32(0), tirx.max, lambda v: tirx.Cast("int32", v))
        zero = tirx.const(0, "uint64")
        total = row.fold(frame, x, zero, _add, lambda v: power(v, top))
        whole = I.bind(tirx.Cast("float32", total))
        with row.elements(x, y) as (i, o):
            frame.store(tirx.Cast("float32", power(frame.load(0, i), top)) / whole, o)
    return count


def emit_normalise(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """Layer, RMS, instance and group normalisation: operands x, scale, bias?."""
    x, y = ins[0], outs[0]
    spatial = op.name in ("InstanceNormalization", "GroupNormalization")
    params = [_parameter(p, x, spatial) for p in ins[1:]]
    if op.name == "GroupNormalization":
        x, y, *params = (_grouped(v, op.num_groups) for v in (x, y, *params))
    axes = tuple(range(2 if spatial else op.axis % x.rank, x.rank))
    size = float(np.prod([x.shape[i] for i in axes]))
    with rows(frame, x.shape, axes) as (row, count):
        mean: Expr = f32(0)
        if op.name != "RMSNormalization":
            mean = I.bind(row.fold(frame, x, f32(0), _add, lambda v: v) / f32(size))
        power = row.fold(frame, x, f32(0), _add, lambda v: (v - mean) * (v - mean))
        root = I.bind(tirx.sqrt(power / f32(size) + f32(op.epsilon)))
        with row.elements(*params, x, y) as at:
            value = (frame.load(0, at[-2]) - mean) / root
            value = value * frame.load(1, at[0])
            if len(params) > 1:
                value = value + frame.load(2, at[1])
            frame.store(value, at[-1])
    return count


def _parameter(p: Strided, x: Strided, spatial: bool) -> Strided:
    """A scale or bias with strides for the axes of ``x``."""
    if spatial:
        column = p.reshaped((p.size, *(1 for _ in x.shape[2:])))
        assert column is not None
        p = column
    return p.broadcast(x.shape)


def _grouped(view: Strided, groups: int) -> Strided:
    """A view with the channels as two axes: groups, and channels within."""
    n, channels, *space = view.shape
    per, outer, inner = channels // groups, view.strides[0], view.strides[1]
    strides = (outer, inner * per, inner, *view.strides[2:])
    return Strided(view.dtype, (n, groups, per, *space), strides)


def emit_arg(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """``ArgMax`` and ``ArgMin``."""
    x, axis = ins[0], op.axis % ins[0].rank
    y = outs[0] if op.keepdims else _inserted(outs[0], axis)
    with rows(frame, x.shape, (axis,)) as (row, count):
        base = I.bind(row.base(x))
        from .loops import local

        best, where = local(1, x.dtype), local(1, "int32")
        I.buffer_store(best, frame.load(0, base), [0])
        I.buffer_store(where, i32(0), [0])
        with I.serial(1, x.shape[axis]) as i:
            v = frame.load(0, base + i * x.strides[axis])
            with I.If(_better(op, v, best[0])), I.Then():
                I.buffer_store(best, v, [0])
                I.buffer_store(where, i, [0])
        frame.store(tirx.Cast("int64", where[0]), row.base(y))
    return count


def _better(op: Any, v: Expr, best: Expr) -> Expr:
    if op.name == "ArgMax":
        return v >= best if op.select_last_index else v > best
    return v <= best if op.select_last_index else v < best


def _inserted(view: Strided, axis: int) -> Strided:
    shape = (*view.shape[:axis], 1, *view.shape[axis:])
    strides = (*view.strides[:axis], 0, *view.strides[axis:])
    return Strided(view.dtype, shape, strides)
