"""Convolutions and products with constant weights: calls of the kernel templates.

A template computes one image: samples of a batch are separate calls, a one-dimensional convolution
is an image of one row, a product of matrices a 1x1 convolution over one row.
"""

from dataclasses import dataclass, replace
from math import gcd

import numpy as np

from ...ir.errors import BackendError
from ...ir.graph import Node, Value
from ...ir.ops import integer
from ...ir.types import Array
from . import kernels as kernel
from .arrange import needed_pads
from .cuda.batches import MOST, apart
from .kernels import ConvWorkload, DepthwiseWorkload, View
from .layout import LANES, Strided, round_up
from .lower import Lowering, Place
from .panels import panel_product
from .program import Kernel, Pointer

Epilogue = kernel.Epilogue | kernel.FloatEpilogue


@dataclass(frozen=True)
class Tail:
    """What follows the accumulator: the epilogue and its operands' places."""

    epilogue: Epilogue
    bias: Array
    multiplier: Array | None
    residual: Place | None = None
    table: Place | None = None


@dataclass(frozen=True)
class Image:
    """A sample seen by a template: the view and the address of its first pixel."""

    view: View
    pointer: Pointer


@dataclass(frozen=True)
class Window:
    """Kernel size, strides and dilations, (h, w)."""

    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)


def lower_conv(low: Lowering, node: Node) -> None:
    """``QConv``: one call per sample and block of groups."""
    op = node.op
    assert isinstance(op, integer.QConv)
    x, w = node.operands[0], _weights(low, node, 1)
    if w.ndim > 4:
        raise BackendError(f"node {node.name!r}: QConv over {w.ndim - 2} axes cannot be compiled")
    pads = needed_pads(node)
    depthwise = op.group == w.shape[0] == x.shape[1] > 1
    source = low.as_image(low.place(x), pads, op.pad_value, LANES if depthwise else 1)
    tail = _tail(low, node, op.epilogue, 2, w.shape[0])
    if tail.residual is not None:
        tail = replace(tail, residual=low.as_image(tail.residual))
    target = low.result(node.output, LANES)
    window = Window(pair(w.shape[2:], 1), pair(op.strides, 1), pair(op.dilations, 1))
    out = template_target(low, node.output, target)
    w = w.reshape(*w.shape[:2], *window.kernel)
    call_conv(low, w, op.group, source, pads, out, tail, window)
    if out is not target:
        low.copy(out, target)


def lower_matmul(low: Lowering, node: Node) -> None:
    """``QMatMul`` with constant weights by a template; of two activations by ``_call_product``."""
    op = node.op
    assert isinstance(op, integer.QMatMul)
    b = node.operands[1]
    if not b.is_constant or b.type.rank != 2:
        _call_product(low, op, _all_operands(low, node), low.result(node.output))
        return
    w = _weights(low, node, 1).T
    tail = _tail(low, node, op.epilogue, 2, w.shape[0])
    call_matrix(low, node, w, tail, low.result(node.output, LANES))


def _call_product(low: Lowering, op: integer.QMatMul, ins: list[Place], out: Place) -> None:
    """Two activations: by the kernel that the machine has for it, else by the generic one."""
    views = tuple(p.view for p in ins)
    kernel: Kernel | None
    if low.fine:
        from .cuda.product import device_product

        kernel = device_product(op, views, out.view, low.features)
    else:
        kernel = panel_product(op, views, out.view, low.features)
    if kernel is not None:
        low.program.call(kernel, tuple(p.pointer for p in (*ins, out)), low.where)
        return
    low.generic(op, ins, [out])


def call_matrix(
    low: Lowering, node: Node, w: Array, tail: Tail, target: Place, result: Value | None = None
) -> None:
    """``target = epilogue(a @ w.T)``, all leading axes of ``a`` as rows.

    ``result``: the value at ``target``, where another node's is fused (default: the node's).
    """
    a = node.operands[0]
    if id(a) in low.flattened:
        matrix, w = _flattened(low.flattened[id(a)], w)
    else:
        matrix = _as_matrix(low, low.place(a))
    out = template_target(low, result or node.output, target, matrix=True)
    columns = out.view.shape[-1]
    rows = out.view.reshaped((out.view.size // columns, columns))
    assert rows is not None
    y = _row(out.viewed(rows), round_up(columns, LANES))
    x = _row(matrix, matrix.view.shape[1])
    residual = _residual_row(low, tail, columns)
    _call(low, w.reshape(*w.shape, 1, 1), x, y, replace(tail, residual=None), Window(), residual)
    if out is not target:
        low.copy(out, target)


def call_conv(
    low: Lowering,
    w: Array,
    group: int,
    source: Place,
    pads: tuple[int, ...],
    out: Place,
    tail: Tail,
    window: Window,
) -> None:
    """A grouped convolution (weights ``[O, C/group, h, w]``) of an image with its halo."""
    depthwise = group == w.shape[0] == source.view.shape[1] > 1
    for block in _blocks(group, w, depthwise):
        _conv_block(low, block, source, pads, out, tail, window, depthwise)


def _all_operands(low: Lowering, node: Node) -> list[Place]:
    """The operands of a product of two activations; an absent bias is zero."""
    a, b, bias, *rest = [*node.inputs, None, None][: max(4, len(node.inputs))]
    offset = low.constant(np.zeros(1, np.int32)) if bias is None else low.place(bias)
    factor = [low.constant(np.ones(1, np.float32)) if v is None else low.place(v) for v in rest]
    assert a is not None
    assert b is not None
    return [low.place(a), low.place(b), offset, *factor]


@dataclass(frozen=True)
class _Block:
    """Weights of some merged groups, and where their channels start."""

    weights: Array
    first_in: int
    inputs: int
    first_out: int
    outputs: int


def _blocks(group: int, w: Array, depthwise: bool) -> list[_Block]:
    """Cut a grouped convolution into dense (or depthwise) ones whose outputs fill vectors."""
    outputs, per = w.shape[0], w.shape[1]
    if group == 1 or depthwise:
        return [_Block(w, 0, per * group, 0, outputs)]
    each = outputs // group
    merged = LANES // gcd(LANES, each)
    if group % merged:
        merged = group
    blocks = []
    for g in range(0, group, merged):
        dense = np.zeros((merged * each, merged * per, *w.shape[2:]), w.dtype)
        for i in range(merged):
            part = w[(g + i) * each : (g + i + 1) * each]
            dense[i * each : (i + 1) * each, i * per : (i + 1) * per] = part
        blocks.append(_Block(dense, g * per, merged * per, g * each, merged * each))
    return blocks


def _conv_block(
    low: Lowering,
    block: _Block,
    source: Place,
    pads: tuple[int, ...],
    out: Place,
    tail: Tail,
    window: Window,
    depthwise: bool,
) -> None:
    """All samples of one block of channels."""
    codes = source.view.dtype == "uint8"  # of reals only what was written may be read
    whole = (codes or depthwise) and block.first_in == 0 and block.inputs == source.view.shape[1]
    x = _channels(source, block.first_in, block.inputs)
    y = _channels(out, block.first_out, block.outputs)
    part = slice(block.first_out, block.first_out + block.outputs)
    residual = None
    if tail.residual is not None:
        residual = _channels(tail.residual, block.first_out, block.outputs)
    multiplier = None if tail.multiplier is None else tail.multiplier[part]
    cut = replace(tail, bias=tail.bias[part], multiplier=multiplier, residual=None)
    places = [place for place in (source, out, tail.residual, tail.table) if place is not None]
    joined = low.fine and apart(place.buffer for place in places)
    for n in range(source.view.shape[0]):
        _call(
            low,
            block.weights,
            _image(x, n, pads, physical=whole),
            _image(y, n, (), physical=True),
            cut,
            window,
            None if residual is None else _image(residual, n, (), physical=True),
            depthwise,
            min(source.view.shape[0], MOST) if joined else 1,
        )


def _call(
    low: Lowering,
    weights: Array,
    x: Image,
    y: Image,
    tail: Tail,
    window: Window,
    residual: Image | None,
    depthwise: bool = False,
    samples: int = 1,
) -> None:
    """One call of a template; ``samples``: that many calls will be one launch."""
    make = DepthwiseWorkload if depthwise else ConvWorkload
    workload = make(
        x.view, y.view, window.kernel, window.strides, window.dilations, tail.epilogue,
        residual.view if residual else None, samples=samples,
    )  # fmt: skip
    workload = kernel.weighed(workload, low.features, weights)
    template = low.choose(workload, low.features)
    packed = low.constant(template.pack(weights), "weights")
    pointers = [x.pointer, packed.pointer]
    for array in (template.bias(tail.bias, weights), tail.multiplier):
        if array is not None:
            padded = np.zeros(y.view.channels, array.dtype)
            padded[: len(array)] = array
            pointers.append(low.constant(padded, "channels").pointer)
    if residual is not None:
        pointers.append(residual.pointer)
    if tail.table is not None:
        pointers.append(tail.table.pointer)
    low.program.call(template, (*pointers, y.pointer), low.where)


def _tail(low: Lowering, node: Node, epilogue: integer.Epilogue, first: int, channels: int) -> Tail:
    """The kernels' form of an epilogue; ``first`` is the index of the bias operand."""
    rest: list[Value | None] = [*node.inputs[first:], None, None]
    bias, multiplier = rest[0], rest[1]
    factor = np.ones(channels, np.float32)
    if multiplier is not None:
        factor = np.broadcast_to(_data(multiplier, node).astype(np.float32), (channels,))
    offset = np.zeros(channels, np.int32)
    if bias is not None:
        offset = _data(bias, node).astype(np.int32)
    extra = iter(v for v in rest[2:] if v is not None)
    residual = low.place(next(extra)) if epilogue.residual is not None else None
    table = low.place(next(extra)) if epilogue.table else None
    return Tail(_kernel_epilogue(epilogue), offset, factor, _image_like(low, residual), table)


def _kernel_epilogue(e: integer.Epilogue) -> kernel.Epilogue:
    residual = None
    if e.residual is not None:
        r = e.residual
        residual = kernel.Residual(r.multiplier, r.shift, r.constant)
    return kernel.Epilogue(e.dtype, e.zero_point, e.low, e.high, residual, e.table)


def _image_like(low: Lowering, residual: Place | None) -> Place | None:
    """A residual operand whose channels (second axis of an image, else the last) are innermost."""
    if residual is None or residual.view.rank < 3:
        return residual
    axis = 1 if residual.view.strides[1] == 1 else residual.view.rank - 1
    return residual if residual.view.strides[axis] == 1 else low.as_image(residual)


def _data(value: Value, node: Node) -> Array:
    if value.data is None:
        raise BackendError(f"node {node.name!r}: operand %{value.name} must be a constant")
    return value.data


def _weights(low: Lowering, node: Node, index: int) -> Array:
    return _data(node.operands[index], node)


def template_target(low: Lowering, value: Value, target: Place, matrix: bool = False) -> Place:
    """``target`` if a template can write it (whole vectors, channels innermost), else scratch.

    ``matrix``: the last axis is what the template writes, also where ``value`` lies channels-last.
    """
    view = target.view
    image = low.arrangement.is_image(value) and not matrix
    axis = 1 if image else view.rank - 1
    inner = view.shape[axis] == 1 or view.strides[axis] == 1
    others = [s for i, s in enumerate(view.strides) if i != axis and view.shape[i] != 1]
    room = min(others, default=round_up(view.shape[axis], LANES))
    flat = image or view.reshaped((-1, view.shape[-1])) is not None
    if inner and flat and room >= round_up(view.shape[axis], LANES) and _has_room(target, axis):
        return target
    from .layout import channels_last, rows

    make = channels_last if image else rows
    return low.fresh(make(view.dtype, view.shape, LANES), f"{value.name}.padded")


def _has_room(target: Place, axis: int) -> bool:
    """Whether the last vector of channels ends inside the buffer."""
    view = target.view
    end = target.offset + view.span + round_up(view.shape[axis], LANES) - view.shape[axis]
    return end * view.itemsize <= target.buffer.size


def _channels(place: Place, first: int, count: int) -> Place:
    """A range of the channels of an image."""
    shape = (place.view.shape[0], count, *place.view.shape[2:])
    view, offset = place.view.sliced((0, first, *(0 for _ in shape[2:])), shape)
    return replace(place, view=view, offset=place.offset + offset)


def _image(place: Place, sample: int, pads: tuple[int, ...], physical: bool) -> Image:
    """One sample with its halo; ``physical``: with the padding of the channels."""
    view = place.view
    space, strides = list(view.shape[2:]), list(view.strides[2:])
    pads = pads or (0,) * 2 * len(space)
    n = len(space)
    back = sum(p * s for p, s in zip(pads[:n], strides, strict=True))
    sizes = [d + pads[i] + pads[i + n] for i, d in enumerate(space)]
    if n == 1:
        sizes, strides = [1, *sizes], [strides[0] * sizes[0], *strides]
    channels = view.shape[1]
    if physical and strides[-1] >= round_up(channels, LANES):
        channels = round_up(channels, LANES)
    offset = place.offset + sample * view.strides[0] - back
    pointer = Pointer(place.buffer, offset * view.itemsize)
    shape = View(sizes[0], sizes[1], channels, strides[0], strides[1], view.dtype)
    return Image(_sane(shape), pointer)


def _sane(view: View) -> View:
    """Strides of unit axes as a dense view has them."""
    pixel = view.pixel_stride if view.width > 1 else max(view.pixel_stride, view.channels)
    row = view.row_stride if view.height > 1 else view.width * pixel
    return replace(view, pixel_stride=pixel, row_stride=row)


def _row(place: Place, channels: int) -> Image:
    """The rows of a matrix as the pixels of an image of one row."""
    count, step = place.view.shape[0], place.view.strides[0]
    step = step if count > 1 else channels
    return Image(View(1, count, channels, count * step, step, place.view.dtype), place.pointer)


def _residual_row(low: Lowering, tail: Tail, columns: int) -> Image | None:
    if tail.residual is None:
        return None
    matrix = _as_matrix(low, tail.residual)
    return _row(matrix, round_up(columns, LANES))


def _as_matrix(low: Lowering, place: Place) -> Place:
    """All leading axes as rows; a copy where the memory does not allow that."""
    columns = place.view.shape[-1]
    matrix = place.view.reshaped((place.view.size // columns, columns))
    if matrix is not None and (matrix.strides[1] == 1 or columns == 1):
        return place.viewed(matrix)
    dense = low.as_rows(place)
    return dense.viewed(Strided.dense(place.view.dtype, (place.view.size // columns, columns)))


def _flattened(place: Place, w: Array) -> tuple[Place, Array]:
    """An image as rows of a matrix in memory order, and the weights' columns in that order."""
    view = place.view
    n, c, space = view.shape[0], view.shape[1], view.shape[2:]
    step = view.strides[-1]
    pixels = int(np.prod(space))
    wide = np.zeros((w.shape[0], pixels, step), w.dtype)
    wide[:, :, :c] = w.reshape(w.shape[0], c, pixels).transpose(0, 2, 1)
    matrix = Strided(view.dtype, (n, pixels * step), (view.strides[0], 1))
    return place.viewed(matrix), wide.reshape(w.shape[0], -1)


def pair(values: tuple[int, ...], fill: int) -> tuple[int, int]:
    """(h, w) of a two- or one-dimensional attribute; ``fill`` for the missing height."""
    return (values[0], values[1]) if len(values) == 2 else (fill, values[0])
