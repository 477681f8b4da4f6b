"""Ops that fetch elements from computed places: index maps, gather, interpolation."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from tvm import tirx

from ...ir.ops.base import Op
from ...ir.ops.integer_resize import QResize
from .layout import Strided
from .loops import Expr, Frame, index_of
from .pointwise import i32
from .windows import points


@dataclass(frozen=True)
class Pick(Op):
    """``y[i, j, ...] = x[map_i[i], map_j[j], ...]`` for the axes in ``axes``, else the same index.

    Operands: x, then one int32 map per axis.  A negative entry gives ``fill``.  Serves pad, tile,
    gather with constant indices, nearest resize and backward slices.
    """

    axes: tuple[int, ...] = ()
    fill: float | int | None = None


@dataclass(frozen=True)
class Interpolate(Op):
    """``y[i] = sum_t weights[i, t] * x[indices[i, t]]`` along ``axis``, in float32.

    Operands: x, indices int32[out, taps], weights float32[out, taps].
    """

    axis: int = 0


def emit_pick(op: Pick, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """Look up the maps, then the element."""
    x, out = ins[0], outs[0]
    with points(out, frame) as (at, extent):
        spot, missing = list(at), None
        for i, axis in enumerate(op.axes):
            spot[axis] = frame.load(1 + i, at[axis])
            if op.fill is not None:
                outside = spot[axis] < 0
                missing = outside if missing is None else tirx.Or(missing, outside)
                spot[axis] = tirx.max(spot[axis], i32(0))
        value = frame.load(0, index_of(spot, x.strides))
        if missing is not None:
            value = tirx.Select(missing, tirx.const(op.fill, x.dtype), value)
        frame.store(value, index_of(at, out.strides))
    return extent


def emit_interpolate(
    op: Interpolate, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]
) -> int:
    """The weighted sum of a few elements along one axis."""
    x, out, taps = ins[0], outs[0], ins[1].shape[1]
    with points(out, frame) as (at, extent):
        total: Expr = tirx.const(0.0, "float32")
        for t in range(taps):
            place = at[op.axis] * taps + t
            spot = [*at[: op.axis], frame.load(1, place), *at[op.axis + 1 :]]
            value = tirx.Cast("float32", frame.load(0, index_of(spot, x.strides)))
            total = total + value * frame.load(2, place)
        frame.store(total, index_of(at, out.strides))
    return extent


def emit_qresize(op: QResize, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """The weighted sum of a few codes along some axes together, in int32."""
    x, out = ins[0], outs[0]
    taps = [ins[1 + 2 * i].shape[1] for i in range(len(op.axes))]
    with points(out, frame) as (at, extent):
        total: Expr = i32((1 << op.shift) >> 1)
        for choice in product(*map(range, taps)):
            spot, weight = list(at), i32(1)
            for i, (axis, tap) in enumerate(zip(op.axes, choice, strict=True)):
                place = at[axis] * taps[i] + tap
                spot[axis] = frame.load(1 + 2 * i, place)
                weight = weight * frame.load(2 + 2 * i, place)
            total = total + tirx.Cast("int32", frame.load(0, index_of(spot, x.strides))) * weight
        codes = tirx.shift_right(total, i32(op.shift))
        frame.store(tirx.Cast("uint8", codes), index_of(at, out.strides))
    return extent


def emit_gather(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """``Gather`` with indices known at run time."""
    x, indices, out = ins[0], ins[1], outs[0]
    axis, n = op.axis % x.rank, indices.rank
    with points(out, frame) as (at, extent):
        found = frame.load(1, index_of(at[axis : axis + n], indices.strides))
        spot = [*at[:axis], wrapped(found, x.shape[axis]), *at[axis + n :]]
        frame.store(frame.load(0, index_of(spot, x.strides)), index_of(at, out.strides))
    return extent


def emit_gather_elements(
    op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]
) -> int:
    """``GatherElements``."""
    x, indices, out = ins[0], ins[1], outs[0]
    axis = op.axis % x.rank
    with points(out, frame) as (at, extent):
        found = frame.load(1, index_of(at, indices.strides))
        spot = [*at[:axis], wrapped(found, x.shape[axis]), *at[axis + 1 :]]
        frame.store(frame.load(0, index_of(spot, x.strides)), index_of(at, out.strides))
    return extent


def emit_gather_nd(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """``GatherND``."""
    x, indices, out = ins[0], ins[1], outs[0]
    depth, lead = indices.shape[-1], indices.rank - 1
    with points(out, frame) as (at, extent):
        spot = list(at[: op.batch_dims])
        for i in range(depth):
            found = frame.load(1, index_of([*at[:lead], i32(i)], indices.strides))
            spot.append(wrapped(found, x.shape[op.batch_dims + i]))
        spot += at[lead:]
        frame.store(frame.load(0, index_of(spot, x.strides)), index_of(at, out.strides))
    return extent


def emit_tensor_scatter(
    op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]
) -> int:
    """``TensorScatter`` in place: operands update and starts, the result is the cache itself."""
    update, starts, cache = ins[0], ins[1], outs[0]
    axis, size = op.axis % cache.rank, cache.shape[op.axis % cache.rank]
    with points(Strided(cache.dtype, update.shape, cache.strides), frame) as (at, extent):
        first = frame.load(1, at[0] * starts.strides[0] if starts.shape[0] > 1 else i32(0))
        spot = list(at)
        if op.mode == "circular":
            spot[axis] = tirx.floormod(tirx.Cast("int32", first) + at[axis], i32(size))
        else:
            spot[axis] = at[axis] + wrapped(first, size - update.shape[axis] + 1)
        frame.store(frame.load(0, index_of(at, update.strides)), index_of(spot, cache.strides))
    return extent


def emit_qpad(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """Pad with a code that is only known at run time."""
    x, zero, out = ins[0], ins[1], outs[0]
    with points(out, frame) as (at, extent):
        spot, inside = [], None
        for i, d in enumerate(x.shape):
            place = at[i] - op.pads[i]
            if op.pads[i] or op.pads[i + x.rank]:
                fits = tirx.And(place >= 0, place < d)
                inside = fits if inside is None else tirx.And(inside, fits)
                place = tirx.min(tirx.max(place, i32(0)), i32(d - 1))
            spot.append(place)
        value = frame.load(0, index_of(spot, x.strides))
        fill = frame.load(1, index_of(at, zero.broadcast(out.shape).strides))
        if inside is not None:
            value = tirx.Select(inside, value, fill)
        frame.store(value, index_of(at, out.strides))
    return extent


def wrapped(index: Expr, size: int) -> Expr:
    """An index that may count from the end, inside the axis whatever the data say."""
    index = tirx.Cast("int32", index)
    index = tirx.Select(index < 0, index + size, index)
    return tirx.min(tirx.max(index, i32(0)), i32(size - 1))
