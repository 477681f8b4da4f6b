"""Ops that only move or rename elements: mostly new places of old memory."""

from dataclasses import replace
from math import prod
from typing import Any

from ...ir.graph import Node, Value
from .layout import Strided
from .lower import Lowering, Place

_FLATTEN_READERS = frozenset({"QMatMul"})


def lower_reshape(low: Lowering, node: Node) -> None:
    """Reshape and its relatives: the same memory under another shape, if that is possible."""
    rename(low, node.operands[0], node.output)


def rename(low: Lowering, source: Value, target: Value) -> None:
    """``target`` has the elements of ``source`` in row-major order."""
    place = low.place(source)
    view = place.view.reshaped(target.shape)
    if view is not None:
        low.places[id(target)] = place.viewed(view)
        return
    if _only_flattens(low, place, target):
        low.flattened[id(target)] = place
        return
    dense = low.as_rows(place, target.name)
    made = dense.view.reshaped(target.shape)
    assert made is not None
    low.places[id(target)] = dense.viewed(made)


def lower_concat(low: Lowering, node: Node) -> None:
    """Copies of the operands that do not lie in the result already.

    Where they lie is looked up: the arrangement offers a place, which views need not take.
    """
    op: Any = node.op
    out = node.output
    whole = low.places.get(id(out)) or low.result(out)
    axis, at = op.axis % out.type.rank, 0
    for value in node.operands:
        size = value.shape[axis]
        source, target = low.place(value), slab(whole, axis, at, size)
        if not _same_memory(source, target):
            low.copy(source, target)
        at += size


def _same_memory(a: Place, b: Place) -> bool:
    return a.buffer is b.buffer and a.offset == b.offset and a.view == b.view


def slab(place: Place, axis: int, first: int, size: int) -> Place:
    """The elements ``first`` .. ``first + size`` along ``axis``."""
    starts = tuple(first if i == axis else 0 for i in range(place.view.rank))
    sizes = tuple(size if i == axis else d for i, d in enumerate(place.view.shape))
    view, offset = place.view.sliced(starts, sizes)
    return place.viewed(view, offset)


def lower_transpose(low: Lowering, node: Node) -> None:
    """Axes in another order: a view."""
    op: Any = node.op
    place = low.place(node.operands[0])
    low.places[id(node.output)] = place.viewed(place.view.transposed(op.perm))


def lower_slice(low: Lowering, node: Node) -> None:
    """A window: a view, with negative strides for negative steps."""
    op: Any = node.op
    place = low.place(node.operands[0])
    starts, steps = [0] * place.view.rank, [1] * place.view.rank
    axes = range(len(op.starts)) if op.axes is None else op.axes
    for i, axis in enumerate(axes):
        axis %= place.view.rank
        step = 1 if op.steps is None else op.steps[i]
        stop = None if step < 0 and op.ends[i] < -(2**31) else op.ends[i]
        starts[axis] = slice(op.starts[i], stop, step).indices(place.view.shape[axis])[0]
        steps[axis] = step
    view, offset = place.view.sliced(tuple(starts), node.output.shape, tuple(steps))
    low.places[id(node.output)] = place.viewed(view, offset)


def lower_split(low: Lowering, node: Node) -> None:
    """Windows side by side: views that keep the border around them."""
    op: Any = node.op
    place, at = low.place(node.operands[0]), 0
    axis = op.axis % place.view.rank
    for value, size in zip(node.outputs, op.sizes, strict=True):
        part = slab(place, axis, at, size)
        low.places[id(value)] = replace(part, border=place.border) if axis == 1 else part
        at += size


def lower_expand(low: Lowering, node: Node) -> None:
    """Repetition by strides of zero: a view."""
    place = low.place(node.operands[0])
    low.places[id(node.output)] = place.viewed(place.view.broadcast(node.output.shape))


def lower_depth_to_space(low: Lowering, node: Node) -> None:
    """One copy from a view of the operand to a view of the result."""
    op: Any = node.op
    b = op.blocksize
    x, y = low.place(node.operands[0]), low.result(node.output)
    n, c, h, w = y.view.shape[0], y.view.shape[1], *x.view.shape[2:]
    shape, order = ((n, b, b, c, h, w), (0, 3, 4, 1, 5, 2))
    if op.mode == "CRD":
        shape, order = ((n, c, b, b, h, w), (0, 1, 4, 2, 5, 3))
    _copy_views(low, x, y, x.view.reshaped(shape), order, y.view.reshaped((n, c, h, b, w, b)))


def lower_space_to_depth(low: Lowering, node: Node) -> None:
    """One copy from a view of the operand to a view of the result."""
    op: Any = node.op
    b = op.blocksize
    x, y = low.place(node.operands[0]), low.result(node.output)
    n, c, h, w = x.view.shape
    split = x.view.reshaped((n, c, h // b, b, w // b, b))
    whole = y.view.reshaped((n, b, b, c, h // b, w // b))
    _copy_views(low, x, y, split, (0, 3, 5, 1, 2, 4), whole)


def _copy_views(
    low: Lowering,
    x: Place,
    y: Place,
    source: Strided | None,
    order: tuple[int, ...],
    target: Strided | None,
) -> None:
    assert source is not None
    assert target is not None
    low.copy(x.viewed(source.transposed(order)), y.viewed(target))


def _only_flattens(low: Lowering, place: Place, target: Value) -> bool:
    """Whether all readers are products whose weights can take the memory's order."""
    view = place.view
    if view.rank < 3 or view.shape[1] == 1 or view.strides[1] != 1 or low.graph.is_output(target):
        return False
    step, dense = view.strides[-1], prod(view.shape[2:]) * view.strides[-1]
    rows = [s * d for s, d in zip(view.strides[2:], view.shape[2:], strict=True)]
    packed = rows[0] == dense and all(
        view.strides[i] == view.strides[i + 1] * view.shape[i + 1] for i in range(2, view.rank - 1)
    )
    flat = target.type.rank == 2 and target.shape[0] == view.shape[0]
    readers = all(
        n.op.name in _FLATTEN_READERS and n.operands[0] is target and n.operands[1].is_constant
        for n in target.uses
    )
    return packed and flat and readers and step >= view.shape[1] and bool(target.uses)
