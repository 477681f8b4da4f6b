"""Import rules for shapes: views of the same elements, parts, copies along axes."""

from collections.abc import Sequence

import numpy as np

from ...ir.graph import Value
from ...ir.ops.base import normal_axis
from ...ir.ops.blocks import DepthToSpace
from ...ir.ops.index import FOREVER, Gather, Pad, ScatterElements, Slice
from ...ir.ops.shape import (
    Concat,
    Expand,
    Reshape,
    Shape,
    Split,
    Squeeze,
    Tile,
    Transpose,
    Unsqueeze,
)  # fmt: skip
from ..onnx_site import Unsupported
from ..torch_site import Rule, Site, Size


def view(site: Site) -> list[Value]:
    """`Reshape`."""
    name = "size" if "size" in site.arguments else "shape"
    return site.shaped(site.value("self"), site.shape(name))


def permute(site: Site) -> list[Value]:
    """`Transpose`."""
    x = site.value("self")
    order = tuple(normal_axis(a, x.type.rank) for a in site.ints("dims"))
    return [x] if order == tuple(range(x.type.rank)) else site.results(Transpose(order), x)


def transpose(site: Site) -> list[Value]:
    """`Transpose` of two axes."""
    x = site.value("self")
    return site.results(_exchanged(x, site.integer("dim0"), site.integer("dim1")), x)


def matrix_transpose(site: Site) -> list[Value]:
    """`Transpose` of a matrix."""
    x = site.value("self")
    return [x] if x.type.rank < 2 else site.results(Transpose((1, 0)), x)


def _exchanged(x: Value, a: int, b: int) -> Transpose:
    order = list(range(x.type.rank))
    a, b = normal_axis(a, x.type.rank), normal_axis(b, x.type.rank)
    order[a], order[b] = order[b], order[a]
    return Transpose(tuple(order))


def swapped(site: Site, x: Value) -> Value:
    """``x`` with its last two axes exchanged."""
    return site.emit(_exchanged(x, -1, -2), x)


def expand(site: Site) -> list[Value]:
    """`Expand`."""
    sizes = site.arguments.get("size")
    assert isinstance(sizes, list | tuple)
    return _expanded(site, site.value("self"), [1 if s == -1 else s for s in sizes])


def broadcast_to(site: Site, x: Value, like: Value) -> list[Value]:
    """The call's result: ``x`` in the shape of ``like``."""
    if all(isinstance(d, int) for d in like.type.shape):
        return _expanded(site, x, like.type.shape)
    return site.results(Expand(), x, site.emit(Shape(), like))


def _expanded(site: Site, x: Value, sizes: Sequence[object]) -> list[Value]:
    target = site.sizes(sizes)
    if isinstance(target, Value):
        return site.results(Expand(), x, target)
    own = (*(1,) * (len(target) - x.type.rank), *x.type.shape)
    if len(own) == x.type.rank and all(t in (1, d) for t, d in zip(target, own, strict=True)):
        return [x]
    return site.results(Expand(target), x)


def squeeze(site: Site) -> list[Value]:
    """`Squeeze`; axes of another length stay."""
    x = site.value("self")
    asked = site.ints("dim") if site.has("dim") else tuple(range(x.type.rank))
    axes = tuple(normal_axis(a, x.type.rank) for a in asked) if x.type.rank else ()
    axes = tuple(a for a in axes if x.type.shape[a] == 1)
    return site.results(Squeeze(axes), x) if axes else [x]


def unsqueeze(site: Site) -> list[Value]:
    """`Unsqueeze`."""
    x = site.value("self")
    return site.results(Unsqueeze((normal_axis(site.integer("dim"), x.type.rank + 1),)), x)


def concat(site: Site) -> list[Value]:
    """`Concat`; one operand is no node at all."""
    items = [v for v in site.values("tensors") if v.type.shape != (0,)]
    items = [site.cast(v, site.dtype) for v in items]
    return items if len(items) == 1 else site.results(Concat(site.integer("dim")), *items)


def stack(site: Site) -> list[Value]:
    """`Unsqueeze` of each operand, then `Concat`."""
    items = [site.cast(v, site.dtype) for v in site.values("tensors")]
    axis = normal_axis(site.integer("dim"), items[0].type.rank + 1)
    items = [site.emit(Unsqueeze((axis,)), v) for v in items]
    return items if len(items) == 1 else site.results(Concat(axis), *items)


def split_with_sizes(site: Site) -> list[Value]:
    """`Split`."""
    x = site.value("self")
    return _parts(site, x, site.ints("split_sizes"), site.integer("dim"))


def split(site: Site) -> list[Value]:
    """`Split`, into parts of one size; the last may be smaller."""
    x, axis, size = site.value("self"), site.integer("dim"), site.integer("split_size")
    whole = x.type.shape[axis]
    if not isinstance(whole, int):
        raise Unsupported(f"axis {axis} of length {whole!r} is split; export it with a fixed size")
    sizes = [size] * (whole // size) + [whole % size] * bool(whole % size)
    return _parts(site, x, tuple(sizes), axis)


def _parts(site: Site, x: Value, sizes: tuple[int, ...], axis: int) -> list[Value]:
    if len(sizes) == 1:
        return [x]
    return site.results(Split(normal_axis(axis, x.type.rank), sizes), x)


def unbind(site: Site) -> list[Value]:
    """`Split` into single elements, then `Squeeze`."""
    x = site.value("self")
    axis = normal_axis(site.integer("dim"), x.type.rank)
    count = len(site.outputs)
    parts = [x] if count == 1 else site.emit_all(Split(axis, (1,) * count), count, x)
    names = zip(parts, site.outputs, strict=True)
    return [site.builder.emit(Squeeze((axis,)), [p], [n], site.origin)[0] for p, n in names]


def select(site: Site) -> list[Value]:
    """`Slice` of one element, then `Squeeze`; `Gather` where the index is not known."""
    x, index = site.value("self"), site.arguments.get("index")
    axis = normal_axis(site.integer("dim"), x.type.rank)
    if isinstance(index, Size):
        return site.results(Gather(axis), x, site.emit(Reshape(()), index.value))
    at = site.integer("index")
    end = FOREVER if at == -1 else at + 1
    return site.results(Squeeze((axis,)), site.emit(Slice((at,), (end,), (axis,)), x))


def slice_(site: Site) -> list[Value]:
    """`Slice`; none where everything stays."""
    x, axis, step = site.value("self"), site.integer("dim"), site.integer("step")
    axis = normal_axis(axis, x.type.rank)
    bounds = [site.arguments.get("start"), site.arguments.get("end")]
    start = 0 if bounds[0] is None else bounds[0]
    end = FOREVER if bounds[1] is None else bounds[1]
    if isinstance(start, int) and isinstance(end, int):
        end = min(end, FOREVER)
        whole = x.type.shape[axis]
        all_of_it = end == FOREVER or (isinstance(whole, int) and end >= whole)
        if step == 1 and start == 0 and all_of_it:
            return [x]
        return site.results(Slice((start,), (end,), (axis,), (step,)), x)
    ends = [site.sizes([b]) for b in (start, end)]
    operands = [v if isinstance(v, Value) else site.constant(np.asarray(v, np.int64)) for v in ends]
    rest = [site.constant(np.asarray([i], np.int64)) for i in (axis, step)]
    return site.results(Slice(), x, *operands, *rest)


def flip(site: Site) -> list[Value]:
    """`Slice` backwards."""
    x = site.value("self")
    axes = tuple(normal_axis(a, x.type.rank) for a in site.ints("dims"))
    if not axes:
        return [x]
    n = len(axes)
    return site.results(Slice((-1,) * n, (-FOREVER - 1,) * n, axes, (-1,) * n), x)


def roll(site: Site) -> list[Value]:
    """`Slice` twice and `Concat`, for each axis."""
    x, shifts, axes = site.value("self"), site.ints("shifts"), site.ints("dims")
    flat = not axes
    if flat:
        x, axes = site.emit(Reshape((-1,)), x), (0,)
    for shift, a in zip(shifts, axes, strict=True):
        axis = normal_axis(a, x.type.rank)
        whole = x.type.shape[axis]
        shift = shift % whole if isinstance(whole, int) else shift
        if shift:
            tail = site.emit(Slice((-shift,), (FOREVER,), (axis,)), x)
            head = site.emit(Slice((0,), (-shift,), (axis,)), x)
            x = site.emit(Concat(axis), tail, head)
    return site.shaped(x, site.value("self").type.static) if flat else [x]


def repeat(site: Site) -> list[Value]:
    """`Tile`; axes are put in front where there are more repeats than axes."""
    x, repeats = site.value("self"), site.shape("repeats")
    count = repeats.type.size if isinstance(repeats, Value) else len(repeats)
    extra = tuple(range(count - x.type.rank))
    x = site.emit(Unsqueeze(extra), x) if extra else x
    if isinstance(repeats, Value):
        return site.results(Tile(), x, repeats)
    return [x] if all(r == 1 for r in repeats) else site.results(Tile(repeats), x)


def pixel_shuffle(site: Site) -> list[Value]:
    """`DepthToSpace`, mode CRD."""
    x = site.value("self")
    if x.type.rank != 4:
        raise Unsupported("only images with a batch axis are supported")
    return site.results(DepthToSpace(site.integer("upscale_factor"), "CRD"), x)


def pad(mode: str) -> Rule:
    """Padding of the last axes, given from the last one on."""

    def rule(site: Site) -> list[Value]:
        name = "pad" if "pad" in site.arguments else "padding"
        x, given = site.value("self"), site.ints(name)
        fill = site.arguments.get("value", 0.0)
        pads = [0] * 2 * x.type.rank
        for i in range(len(given) // 2):
            pads[x.type.rank - 1 - i] = given[2 * i]
            pads[2 * x.type.rank - 1 - i] = given[2 * i + 1]
        if not any(pads):
            return [x]
        value = float(fill) if isinstance(fill, int | float) else 0.0
        return site.results(Pad(tuple(pads), mode, value), x)

    rule.__doc__ = f"`Pad`, mode {mode}"
    return rule


def select_scatter(site: Site) -> list[Value]:
    """The parts around the index and the source: `Concat`."""
    x = site.value("self")
    axis = normal_axis(site.integer("dim"), x.type.rank)
    at = site.integer("index")
    source = site.emit(Unsqueeze((axis,)), site.cast(site.value("src"), site.dtype))
    whole = x.type.shape[axis]
    return _replaced(site, axis, at + (whole if at < 0 and isinstance(whole, int) else 0), source)


def slice_scatter(site: Site) -> list[Value]:
    """The parts around the slice and the source: `Concat`; `ScatterElements` with steps."""
    x, source = site.value("self"), site.cast(site.value("src"), site.dtype)
    axis = normal_axis(site.integer("dim"), x.type.rank)
    start = site.integer("start") if site.has("start") else 0
    step, whole = site.integer("step"), x.type.shape[axis]
    if start < 0:
        if not isinstance(whole, int):
            raise Unsupported(f"a part of an axis of length {whole!r} is replaced from its end")
        start += whole
    if step == 1:
        return _replaced(site, axis, start, source)
    shape = [1] * x.type.rank
    count = source.type.static[axis]
    shape[axis] = count
    at = (start + step * np.arange(count, dtype=np.int64)).reshape(shape)
    indices = site.constant(np.ascontiguousarray(np.broadcast_to(at, source.type.static)))
    return site.results(ScatterElements(axis), x, indices, source)


def _replaced(site: Site, axis: int, start: int, source: Value) -> list[Value]:
    """``self`` with ``source`` from ``start`` on."""
    x = site.value("self")
    end = start + source.type.static[axis]
    parts = [source]
    if start > 0:
        parts.insert(0, site.emit(Slice((0,), (start,), (axis,)), x))
    if x.type.shape[axis] != end:
        parts.append(site.emit(Slice((end,), (FOREVER,), (axis,)), x))
    return parts if len(parts) == 1 else site.results(Concat(axis), *parts)


def copy(site: Site) -> list[Value]:
    """The source, cast and broadcast to what it replaces."""
    return broadcast_to(site, site.cast(site.value("src"), site.dtype), site.value("self"))


def diagonal(site: Site) -> list[Value]:
    """`Gather` from the two axes made one."""
    x, offset = site.value("self"), site.integer("offset")
    rank = x.type.rank
    first, second = (normal_axis(site.integer(n), rank) for n in ("dim1", "dim2"))
    rest = [a for a in range(rank) if a not in (first, second)]
    rows, columns = x.type.static[first], x.type.static[second]
    moved = site.emit(Transpose((*rest, first, second)), x)
    flat = site.emit(Reshape((*(0,) * len(rest), rows * columns)), moved)
    start = offset if offset >= 0 else -offset * columns
    count = min(rows + min(offset, 0), columns - max(offset, 0))
    at = site.constant(start + np.arange(count, dtype=np.int64) * (columns + 1))
    return site.results(Gather(len(rest)), flat, at)


def sym_size(site: Site) -> list[Value]:
    """`Shape`, one element."""
    x = site.value("self")
    axis = normal_axis(site.integer("dim"), x.type.rank)
    return site.results(Shape(axis, axis + 1), x)
