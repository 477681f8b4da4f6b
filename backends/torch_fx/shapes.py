"""Forms of shapes, parts, indices, reductions and sorting."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node as Step
from torch.nn import functional as F

from ...ir import ops
from ...ir.ops.base import normal_axis
from ...ir.ops.index import FOREVER
from ...ir.ops.reduce import ArgReduce, Reduce
from . import functions
from .emitter import Form, Site, dtype_of


def reshape(site: Site) -> Step:
    """Numbers where they are known; sizes of the operand where it keeps an axis."""
    op = site.node.op
    assert isinstance(op, ops.Reshape)
    if len(site.given) > 1:
        return site.call(functions.reshaped, site[0], site[1], op.allowzero)
    shape: list[object] = list(op.shape or ())
    for i, d in enumerate(shape):
        if d == 0 and not op.allowzero:
            known = site.value(0).type.shape[i]
            shape[i] = known if isinstance(known, int) else site.method("size", site[0], i)
    return site.call(torch.reshape, site[0], shape)


def flatten(site: Site) -> Step:
    """A matrix."""
    op, x = site.node.op, site.value(0).type
    assert isinstance(op, ops.Flatten)
    at = x.rank if op.axis == x.rank else normal_axis(op.axis, x.rank)
    if at == 1:
        return site.call(torch.flatten, site[0], 1) if x.rank > 1 else _matrix(site, at)
    return _matrix(site, at)


def _matrix(site: Site, axis: int) -> Step:
    return site.call(functions.matrix_of, site[0], axis)


def transpose(site: Site) -> Step:
    """Axes in another order."""
    op = site.node.op
    assert isinstance(op, ops.Transpose)
    return site.call(torch.permute, site[0], list(op.perm))


def squeeze(site: Site) -> Step:
    """Axes of length 1 taken out."""
    op, x = site.node.op, site.value(0).type
    assert isinstance(op, ops.Squeeze)
    axes = op.axes if op.axes is not None else [i for i, d in enumerate(x.shape) if d == 1]
    return site.call(torch.squeeze, site[0], [normal_axis(a, x.rank) for a in axes])


def unsqueeze(site: Site) -> Step:
    """Axes of length 1 put in, one after another."""
    op, step = site.node.op, site[0]
    assert isinstance(op, ops.Unsqueeze)
    for axis in sorted(normal_axis(a, site.type.rank) for a in op.axes):
        step = site.call(torch.unsqueeze, step, axis)
    return step


def concat(site: Site) -> Step:
    """Operands one after another."""
    op = site.node.op
    assert isinstance(op, ops.Concat)
    return site.call(torch.cat, site.given, op.axis)


def split(site: Site) -> list[Step]:
    """Parts of an axis."""
    op = site.node.op
    assert isinstance(op, ops.Split)
    parts = site.call(torch.split, site[0], list(op.sizes), op.axis)
    return [site.call(operator.getitem, parts, i) for i in range(len(op.sizes))]


def expand(site: Site) -> Step:
    """An axis whose length is not known must be one that the operand has, or an operand's."""
    if len(site.given) > 1:
        return site.call(functions.expanded, site[0], site[1])
    x, target = site.value(0).type, site.type.shape
    own = (*(1,) * (len(target) - x.rank), *x.shape)
    sizes = [-1 if a == b and a != 1 else b for a, b in zip(own, target, strict=True)]
    if any(isinstance(s, str) for s in sizes):
        raise site.refuse("its shape is not known")
    return site.method("expand", site[0], sizes)


def tile(site: Site) -> Step:
    """Repeats along each axis."""
    op = site.node.op
    assert isinstance(op, ops.Tile)
    if op.repeats is None:
        raise site.refuse("its repeats are not known")
    return site.call(torch.tile, site[0], list(op.repeats))


def shape(site: Site) -> Step:
    """Dimensions as data."""
    op = site.node.op
    assert isinstance(op, ops.Shape)
    return site.call(functions.shape_of, site[0], op.start, op.end)


def size(site: Site) -> Step:
    """The number of elements as data."""
    return site.call(torch.prod, site.call(functions.shape_of, site[0]))


def constant_of_shape(site: Site) -> Step:
    """A tensor full of one number."""
    op, dtype = site.node.op, dtype_of(site.type.dtype)
    assert isinstance(op, ops.ConstantOfShape)
    if site.given:
        return site.call(functions.full_of, site[0], op.value, dtype)
    return site.call(torch.full, list(site.type.static), op.value, dtype=dtype)


def range_(site: Site) -> Step:
    """Numbers at equal distances."""
    ends = [site.scalar(i) for i in range(3)]
    if any(e is None for e in ends):
        raise site.refuse("its ends are not constant")
    return site.call(torch.arange, *ends, dtype=dtype_of(site.type.dtype))


def depth_to_space(site: Site) -> Step:
    """Channels to pixels."""
    op = site.node.op
    assert isinstance(op, ops.DepthToSpace)
    if op.mode == "CRD":
        return site.call(F.pixel_shuffle, site[0], op.blocksize)
    return site.call(functions.depth_to_space, site[0], op.blocksize)


def space_to_depth(site: Site) -> Step:
    """Pixels to channels."""
    op = site.node.op
    assert isinstance(op, ops.SpaceToDepth)
    return site.call(functions.space_to_depth, site[0], op.blocksize)


def slice_(site: Site) -> Step:
    """Python's slices forwards, whole axes turned around; else picks."""
    op, rank = site.node.op, site.value(0).type.rank
    assert isinstance(op, ops.Slice)
    if op.starts is None or op.ends is None:
        raise site.refuse("its bounds are not constant")
    axes = op.axes if op.axes is not None else tuple(range(len(op.starts)))
    steps = op.steps if op.steps is not None else (1,) * len(op.starts)
    axes = tuple(normal_axis(a, rank) for a in axes)
    ends = [
        (start, end < -FOREVER, step)
        for start, end, step in zip(op.starts, op.ends, steps, strict=True)
    ]
    if all(e == (-1, True, -1) for e in ends):
        return site.call(torch.flip, site[0], list(axes))
    if min(steps) < 0:
        return site.call(functions.sliced, site[0], op.starts, op.ends, axes, steps)
    index = [slice(None)] * rank
    for axis, start, end, step in zip(axes, op.starts, op.ends, steps, strict=True):
        index[axis] = slice(start, end, step)
    return site.call(operator.getitem, site[0], tuple(index))


def pad(site: Site) -> Step:
    """Numbers, or elements of the operand, around it."""
    op, rank = site.node.op, site.value(0).type.rank
    assert isinstance(op, ops.Pad)
    if op.pads is None:
        raise site.refuse("its pads are not constant")
    if op.mode != "constant":
        return site.call(functions.padded, site[0], op.pads, op.mode)
    pairs = [p for i in reversed(range(rank)) for p in (op.pads[i], op.pads[i + rank])]
    while len(pairs) > 2 and pairs[-2:] == [0, 0]:
        del pairs[-2:]
    return site.call(F.pad, site[0], pairs, "constant", op.value)


def gather(site: Site) -> Step:
    """Rows of a table by ``F.embedding``; one element by ``select``."""
    op, x = site.node.op, site.value(0).type
    assert isinstance(op, ops.Gather)
    axis = normal_axis(op.axis, x.rank)
    at = site.scalar(1)
    if at is not None:
        return site.call(torch.select, site[0], axis, int(at))
    if axis == 0 and x.rank == 2 and x.is_float and site.value(1).data is None:
        return site.call(F.embedding, site[1], site[0])
    return site.call(functions.gathered, site[0], site[1], axis)


def gather_elements(site: Site) -> Step:
    """One element for every index."""
    op = site.node.op
    assert isinstance(op, ops.GatherElements)
    return site.call(functions.gathered_elements, site[0], site[1], op.axis)


def gather_nd(site: Site) -> Step:
    """Slices by index tuples."""
    op = site.node.op
    assert isinstance(op, ops.GatherND)
    return site.call(functions.gathered_tuples, site[0], site[1], op.batch_dims)


def scatter_elements(site: Site) -> Step:
    """Elements replaced or reduced."""
    op = site.node.op
    assert isinstance(op, ops.ScatterElements)
    return site.call(functions.scattered_elements, *site.given, op.axis, op.reduction)


def scatter_nd(site: Site) -> Step:
    """Slices replaced or added to."""
    op = site.node.op
    assert isinstance(op, ops.ScatterND)
    if op.reduction not in ("none", "add"):
        raise site.refuse(f"reduction {op.reduction!r} has no form in torch")
    return site.call(functions.scattered_tuples, *site.given, op.reduction == "add")


def one_hot(site: Site) -> Step:
    """Indices as rows."""
    op = site.node.op
    assert isinstance(op, ops.OneHot)
    return site.call(functions.one_hot, site[0], site[1], op.depth, op.axis)


def non_zero(site: Site) -> Step:
    """Where elements are not zero."""
    return site.call(torch.t, site.call(torch.nonzero, site[0]))


def triangle(site: Site) -> Step:
    """A triangle of the last two axes."""
    op = site.node.op
    assert isinstance(op, ops.Trilu)
    return site.call(torch.triu if op.upper else torch.tril, site[0], op.k)


def reduction(function: Callable[..., Any]) -> Form:
    """``function(x, axes, keepdims)``."""

    return lambda site: site.call(function, site[0], *_over(site))


def _over(site: Site) -> tuple[list[int], bool]:
    """The axes of a reduction, and whether they stay."""
    op, rank = site.node.op, site.value(0).type.rank
    assert isinstance(op, Reduce)
    axes = range(rank) if op.axes is None else [normal_axis(a, rank) for a in op.axes]
    return list(axes), op.keepdims


def sum_of(before: Callable[..., Any] | None, after: Callable[..., Any] | None = None) -> Form:
    """``after(sum(before(x)))``, in the operand's type."""

    def form(site: Site) -> Step:
        x = site[0] if before is None else site.call(before, site[0])
        total = site.call(torch.sum, x, *_over(site), dtype=dtype_of(site.type.dtype))
        return total if after is None else site.call(after, total)

    return form


def arg_reduce(largest: bool) -> Form:
    """The first index, or the last."""

    def form(site: Site) -> Step:
        op = site.node.op
        assert isinstance(op, ArgReduce)
        if op.select_last_index:
            return site.call(functions.last_extreme, site[0], op.axis, op.keepdims, largest)
        return site.call(torch.argmax if largest else torch.argmin, site[0], op.axis, op.keepdims)

    return form


def cumulative_sum(site: Site) -> Step:
    """Running sum."""
    op = site.node.op
    assert isinstance(op, ops.CumSum)
    return site.call(functions.running_sum, site[0], op.axis, op.exclusive, op.reverse)


def top_k(site: Site) -> list[Step]:
    """The greatest or least elements."""
    op = site.node.op
    assert isinstance(op, ops.TopK)
    both = site.call(functions.top, site[0], op.k, op.axis, op.largest)
    return [site.call(operator.getitem, both, i) for i in (0, 1)]


def einsum(site: Site) -> Step:
    """Sums over named axes."""
    op = site.node.op
    assert isinstance(op, ops.Einsum)
    return site.call(torch.einsum, op.equation, *site.given)


def along(function: Callable[..., Any], *fields: str) -> Form:
    """``function(x, attributes..., axis)``."""

    def form(site: Site) -> Step:
        op = site.node.op
        return site.call(function, site[0], *(getattr(op, f) for f in (*fields, "axis")))

    return form


def local_response(site: Site) -> Step:
    """Response among channels."""
    op = site.node.op
    assert isinstance(op, ops.LRN)
    return site.call(functions.local_response, site[0], op.size, op.alpha, op.beta, op.bias)
