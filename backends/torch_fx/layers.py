"""Forms of convolutions, products, pooling, normalisations and interpolation."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.fx import Node as Step
from torch.nn import functional as F

from ...ir import ops
from ...ir.ops.pool import Pool
from ...ir.ops.resize import Resize
from ...ir.types import Array
from . import functions
from .emitter import Form, Site

_CONV = (F.conv1d, F.conv2d, F.conv3d)
_CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVERAGE_POOL = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def conv(site: Site) -> Step:
    """Uneven padding is a step of its own."""
    op = site.node.op
    assert isinstance(op, ops.Conv)
    n = len(op.strides)
    x, padding = _padded(site, op.pads, 0.0)
    return site.call(
        _CONV[n - 1], x, site[1], site.optional(2), list(op.strides), padding,
        list(op.dilations), op.group,
    )  # fmt: skip


def conv_transpose(site: Site) -> Step:
    """Uneven padding is cut off afterwards."""
    op = site.node.op
    assert isinstance(op, ops.ConvTranspose)
    n = len(op.strides)
    function, strides, dilations = _CONV_TRANSPOSE[n - 1], list(op.strides), list(op.dilations)
    begins, ends = op.pads[:n], op.pads[n:]
    if begins == ends and all(p < max(s, d) for p, s, d in
                              zip(op.output_padding, strides, dilations, strict=True)):  # fmt: skip
        return site.call(
            function, site[0], site[1], site.optional(2), strides, list(begins),
            list(op.output_padding), op.group, dilations,
        )  # fmt: skip
    y = site.call(function, site[0], site[1], None, strides, [0] * n, [0] * n, op.group, dilations)
    rest = [extra - end for extra, end in zip(op.output_padding, ends, strict=True)]
    y = site.call(F.pad, y, _for_torch([-b for b in begins], rest))
    if site.optional(2) is None:
        return y
    bias = site.call(torch.reshape, site[2], [-1, *[1] * n])
    return site.call(operator.add, y, bias)


def _for_torch(begins: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Pads as ``F.pad`` takes them: from the last axis on."""
    pairs = list(zip(begins, ends, strict=True))
    return [p for pair in reversed(pairs) for p in pair]


def _padded(site: Site, pads: Sequence[int], value: float) -> tuple[Step, list[int]]:
    """The operand and the padding that remains to be done: even on both sides, or none."""
    n = len(pads) // 2
    begins, ends = list(pads[:n]), list(pads[n:])
    if begins == ends:
        return site[0], begins
    return site.call(F.pad, site[0], _for_torch(begins, ends), "constant", value), [0] * n


def gemm(site: Site) -> Step:
    """``F.linear`` where it is one; else a product, scaled and shifted as asked."""
    op = site.node.op
    assert isinstance(op, ops.Gemm)
    c = site.optional(2)
    flat = c is None or site.value(2).type.rank == 1
    if op.trans_b and not op.trans_a and op.alpha == op.beta == 1 and flat:
        return site.call(F.linear, site[0], site[1], c)
    a = site.call(torch.t, site[0]) if op.trans_a else site[0]
    b = site.call(torch.t, site[1]) if op.trans_b else site[1]
    if site.value(0).type.rank > 2:
        y = site.call(torch.matmul, a, b)
        y = y if op.alpha == 1 else site.call(operator.mul, y, op.alpha)
        if c is None:
            return y
        return site.call(torch.add, y, c, alpha=op.beta)
    if c is not None:
        return site.call(torch.addmm, c, a, b, beta=op.beta, alpha=op.alpha)
    y = site.call(torch.mm, a, b)
    return y if op.alpha == 1 else site.call(operator.mul, y, op.alpha)


def max_pool(site: Site) -> Step:
    """Padding never wins."""
    op = site.node.op
    assert isinstance(op, Pool)
    x, padding = _padded(site, op.pads, float("-inf"))
    if any(2 * p > k for p, k in zip(padding, op.kernel, strict=True)):
        x = site.call(F.pad, x, _for_torch(padding, padding), "constant", float("-inf"))
        padding = [0] * len(padding)
    return site.call(
        _MAX_POOL[len(op.kernel) - 1], x, list(op.kernel), list(op.strides), padding,
        list(op.dilations), op.ceil_mode,
    )  # fmt: skip


def average_pool(site: Site) -> Step:
    """What torch's pooling cannot say is a quotient of sums."""
    op = site.node.op
    assert isinstance(op, ops.AveragePool)
    n = len(op.kernel)
    begins, ends = op.pads[:n], op.pads[n:]
    _plain(site, op)
    if begins == ends and all(2 * p <= k for p, k in zip(begins, op.kernel, strict=True)):
        return site.call(
            _AVERAGE_POOL[n - 1], site[0], list(op.kernel), list(op.strides), list(begins),
            op.ceil_mode, op.count_include_pad,
        )  # fmt: skip
    if op.ceil_mode:
        raise site.refuse("uneven padding with ceil_mode has no form in torch")
    return site.call(
        functions.edge_average, site[0], list(op.kernel), list(op.strides),
        _for_torch(begins, ends), not op.count_include_pad,
    )  # fmt: skip


def lp_pool(site: Site) -> Step:
    """A root of sums of powers."""
    op = site.node.op
    assert isinstance(op, ops.LpPool)
    n = len(op.kernel)
    _plain(site, op)
    if op.ceil_mode:
        raise site.refuse("ceil_mode has no form in torch")
    pads = _for_torch(op.pads[:n], op.pads[n:])
    return site.call(functions.lp_pool, site[0], list(op.kernel), list(op.strides), pads, op.p)


def _plain(site: Site, op: Pool) -> None:
    if any(d != 1 for d in op.dilations):
        raise site.refuse("a pooling with dilations has no form in torch")


def global_pool(function: Any) -> Form:
    """A reduction of all spatial axes."""

    def form(site: Site) -> Step:
        return site.call(function, site[0], list(range(2, site.value(0).type.rank)), True)

    return form


def batch_normalization(site: Site) -> Step:
    """With statistics that stay as they are."""
    op = site.node.op
    assert isinstance(op, ops.BatchNormalization)
    x, scale, bias, mean, variance = site.given
    return site.call(F.batch_norm, x, mean, variance, scale, bias, False, 0.0, op.epsilon)


def instance_normalization(site: Site) -> Step:
    """Every channel of every sample."""
    op = site.node.op
    assert isinstance(op, ops.InstanceNormalization)
    x, scale, bias = site.given
    return site.call(F.instance_norm, x, weight=scale, bias=bias, eps=op.epsilon)


def group_normalization(site: Site) -> Step:
    """Groups of channels."""
    op = site.node.op
    assert isinstance(op, ops.GroupNormalization)
    x, scale, bias = site.given
    return site.call(F.group_norm, x, op.num_groups, scale, bias, op.epsilon)


def layer_normalization(site: Site) -> Step:
    """The last axes; a scale of another shape is multiplied afterwards."""
    op = site.node.op
    assert isinstance(op, ops.LayerNormalization)
    shape = _last(site, op.axis)
    bias = site.optional(2)
    own = all(site.value(i).type.shape == tuple(shape) for i in range(1, len(site.given)))
    if own:
        return site.call(F.layer_norm, site[0], shape, site[1], bias, op.epsilon)
    y = site.call(F.layer_norm, site[0], shape, None, None, op.epsilon)
    y = site.call(operator.mul, y, site[1])
    return y if bias is None else site.call(operator.add, y, bias)


def rms_normalization(site: Site) -> Step:
    """The last axes; a scale of another shape is multiplied afterwards."""
    op = site.node.op
    assert isinstance(op, ops.RMSNormalization)
    shape = _last(site, op.axis)
    if site.value(1).type.shape == tuple(shape):
        return site.call(F.rms_norm, site[0], shape, site[1], op.epsilon)
    y = site.call(F.rms_norm, site[0], shape, None, op.epsilon)
    return site.call(operator.mul, y, site[1])


def hadamard(site: Site) -> Step:
    """A product with a constant."""
    return site.call(functions.hadamard, site[0])


def _last(site: Site, axis: int) -> list[int]:
    x = site.value(0).type
    return list(x.with_shape(x.shape[axis % x.rank :]).static)


def resize(site: Site) -> Step:
    """``F.interpolate`` where it says the same; else picks and products, axis by axis."""
    op = site.node.op
    assert isinstance(op, Resize)
    before, after = site.value(0).type, site.type
    mode = _interpolation(op, before.rank)
    if mode is not None:
        aligned = op.coordinate_transformation_mode == "align_corners"
        corners = None if mode == "nearest" else aligned
        if op.scales is not None:
            scales = list(op.scales[2:])
            return site.call(F.interpolate, site[0], None, scales, mode, corners)
        return site.call(
            F.interpolate, site[0], list(after.with_shape(after.shape[2:]).static), None, mode,
            corners,
        )  # fmt: skip
    y = site[0]
    for axis in op.moved_axes(before.static, after.static):
        size, out = before.static[axis], after.static[axis]
        if op.mode == "nearest":
            at = op.nearest(op.positions(size, out, op.factor(axis, size, out)))
            indices = torch.from_numpy(np.clip(at, 0, size - 1))
            y = site.call(torch.index_select, y, axis, _kept(site, indices))
        else:
            matrix: Array = op.weights(size, out, op.factor(axis, size, out))
            y = site.call(functions.turned, y, axis, _kept(site, torch.from_numpy(matrix).float()))
    return y


def _interpolation(op: Resize, rank: int) -> str | None:
    """The mode of ``F.interpolate`` that means ``op``."""
    moves = op.scales if op.scales is not None else op.sizes
    if moves is None or op.antialias or op.exclude_outside or not 3 <= rank <= 5:
        return None
    still = (1.0, 1.0) if op.scales is not None else (-1, -1)
    if tuple(moves[:2]) != still or -1 in moves[2:]:
        return None
    where = op.coordinate_transformation_mode
    match op.mode:
        case "nearest":
            plain = where == "asymmetric" and op.nearest_mode == "floor"
            return "nearest" if plain else None
        case "linear" if where in ("half_pixel", "align_corners"):
            return ("linear", "bilinear", "trilinear")[rank - 3]
        case "cubic" if where in ("half_pixel", "align_corners"):
            return "bicubic" if rank == 4 and op.cubic_coeff_a == -0.75 else None
    return None


def _kept(site: Site, tensor: torch.Tensor) -> Step:
    """A buffer of the module."""
    module = site.graph.owning_module
    assert module is not None
    name = f"{site.node.output.name}_table_{len(dict(module.named_buffers()))}".replace(".", "_")
    module.register_buffer(name, tensor)
    return site.graph.get_attr(name)
