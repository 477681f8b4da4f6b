"""Ops whose index arithmetic is known at compile time: maps of indices per axis as constants."""

from dataclasses import replace
from typing import Any

import numpy as np

from ...ir.errors import BackendError
from ...ir.graph import Node
from ...ir.types import Array
from .layout import rows
from .lower import Lowering, Place
from .lower_views import rename
from .picking import Interpolate, Pick


def lower_pad(low: Lowering, node: Node) -> None:
    """``Pad`` in any mode; a border of -1 stands for the constant."""
    op: Any = node.op
    x, n = node.operands[0], node.operands[0].type.rank
    if op.pads is None:
        raise BackendError(f"node {node.name!r}: Pad needs constant pads")
    if not any(op.pads):
        rename(low, x, node.output)
        return
    mode = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}[op.mode]
    maps: dict[int, Array] = {}
    for axis, size in enumerate(x.shape):
        begin, end = op.pads[axis], op.pads[axis + n]
        if begin or end:
            inner = np.arange(max(0, -begin), size - max(0, -end))
            grow = (max(0, begin), max(0, end))
            if mode == "constant":
                maps[axis] = np.pad(inner, grow, constant_values=-1)
            else:
                maps[axis] = np.pad(inner, grow, mode=mode)  # type: ignore[call-overload]
    pick(low, node, maps, op.value if mode == "constant" else None)


def lower_tile(low: Lowering, node: Node) -> None:
    """``Tile``: each index modulo the operand's length."""
    op: Any = node.op
    shape = node.operands[0].shape
    if op.repeats is None:
        raise BackendError(f"node {node.name!r}: Tile needs constant repeats")
    moved = [(i, r) for i, r in enumerate(op.repeats) if r != 1]
    pick(low, node, {i: np.tile(np.arange(shape[i]), r) for i, r in moved})


def lower_gather(low: Lowering, node: Node) -> None:
    """``Gather``: a view where constant indices are a row, else by maps, or by its own kernel."""
    op: Any = node.op
    x, indices = node.operands[0], node.operands[1]
    if indices.data is None:
        low.generic(op, [low.place(x), low.place(indices)], [low.result(node.output)])
        return
    axis = op.axis % x.type.rank
    flat = np.asarray(indices.data).astype(np.int64).ravel() % x.shape[axis]
    shape = (*x.shape[:axis], len(flat), *x.shape[axis + 1 :])
    source = low.place(x)
    if indices.type.rank < 2 and len(flat) and len(set(np.diff(flat))) < 2:
        low.places[id(node.output)] = _row(source, axis, flat, indices.type.rank)
        return
    made = low.fresh(rows(source.view.dtype, shape), node.output.name)
    if indices.type.rank == 1:
        made = low.result(node.output)
    _call(low, source, made, {axis: flat}, None)
    view = made.view.reshaped(node.output.shape)
    assert view is not None
    low.places[id(node.output)] = made if indices.type.rank == 1 else made.viewed(view)


def _row(source: Place, axis: int, indices: Array, rank: int) -> Place:
    """The elements at evenly spaced ``indices`` of an axis, which a single one (rank 0) ends."""
    step = int(indices[1] - indices[0]) if len(indices) > 1 else 1
    starts = tuple(int(indices[0]) if i == axis else 0 for i in range(source.view.rank))
    sizes = tuple(len(indices) if i == axis else d for i, d in enumerate(source.view.shape))
    steps = tuple(step if i == axis else 1 for i in range(source.view.rank))
    view, offset = source.view.sliced(starts, sizes, steps)
    if rank == 0:
        shape, strides = ((*v[:axis], *v[axis + 1 :]) for v in (view.shape, view.strides))
        view = replace(view, shape=shape, strides=strides)
    return source.viewed(view, offset)


def lower_resize(low: Lowering, node: Node) -> None:
    """``Resize``: nearest by maps, linear and cubic axis by axis in float32."""
    op: Any = node.op
    x, out = node.operands[0], node.output
    if op.scales is None and op.sizes is None:
        raise BackendError(f"node {node.name!r}: Resize needs constant scales or sizes")
    axes = op.moved_axes(x.shape, out.shape)
    if not axes:
        rename(low, x, out)
    elif op.mode == "nearest":
        pick(low, node, {i: _nearest(op, i, x.shape[i], out.shape[i]) for i in axes})
    elif x.type.dtype != "float32":
        raise BackendError(f"node {node.name!r}: {op.mode} Resize of {x.type.dtype} is not exact")
    else:
        _interpolate(low, node, axes)


def pick(
    low: Lowering, node: Node, maps: dict[int, Array], fill: float | int | None = None
) -> None:
    """The result of ``node`` by index maps."""
    _call(low, low.place(node.operands[0]), low.result(node.output), maps, fill)


def _call(
    low: Lowering, source: Place, target: Place, maps: dict[int, Array], fill: float | int | None
) -> None:
    places = [low.constant(m.astype(np.int32), "indices") for m in maps.values()]
    value = None if fill is None else np.dtype(source.view.dtype).type(fill).item()
    low.generic(Pick(tuple(maps), value), [source, *places], [target])


def _nearest(op: Any, axis: int, size: int, out: int) -> Array:
    at = op.positions(size, out, op.factor(axis, size, out))
    return np.asarray(np.clip(op.nearest(at), 0, size - 1))


def _interpolate(low: Lowering, node: Node, axes: list[int]) -> None:
    op: Any = node.op
    place = low.place(node.operands[0])
    for i, axis in enumerate(axes):
        size, out = place.view.shape[axis], node.output.shape[axis]
        indices, weights = op.taps(axis, size, out)
        shape = (*place.view.shape[:axis], out, *place.view.shape[axis + 1 :])
        last = i == len(axes) - 1
        target = low.result(node.output) if last else _between(low, place, shape)
        tables = [low.constant(indices.astype(np.int32)), low.constant(weights.astype(np.float32))]
        low.generic(Interpolate(axis), [place, *tables], [target])
        place = target


def _between(low: Lowering, like: Place, shape: tuple[int, ...]) -> Place:
    """Scratch memory in the order of ``like``."""
    from .layout import channels_last

    image = len(shape) > 2 and like.view.strides[1] == 1
    make = channels_last(like.view.dtype, shape, 1) if image else rows(like.view.dtype, shape)
    return low.fresh(make, "resized")
