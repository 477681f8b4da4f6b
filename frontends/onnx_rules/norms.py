"""Import rules for normalisations and softmax, old forms included."""

from collections.abc import Callable

import numpy as np

from ...ir.graph import Value
from ...ir.ops.base import Op, normal_axis
from ...ir.ops.elementwise import Add, Div, Mul, Sqrt, Sub
from ...ir.ops.norm import (
    BatchNormalization,
    GroupNormalization,
    Hardmax,
    LayerNormalization,
    LogSoftmax,
    RMSNormalization,
    Softmax,
)  # fmt: skip
from ...ir.ops.reduce import ReduceMean
from ...ir.ops.shape import Expand, Flatten, Reshape, Shape, Unsqueeze
from ..onnx_site import Site, Unsupported
from .layers import scaled_sum


def batch_normalization(site: Site) -> list[Value]:
    """BatchNormalization at inference; ``spatial = 0`` (opset 7, 8) has one number per element."""
    site.only(1, "training outputs are not supported; export the network for inference")
    if site.flag("training_mode"):
        raise Unsupported("training mode is not supported; export the network for inference")
    epsilon = site.number("epsilon", 1e-5)
    if site.opset >= 9 or site.flag("spatial", True):
        return site.results(BatchNormalization(epsilon), *site.inputs[:5])
    x, scale, bias, mean, variance = (site.input(i) for i in range(5))
    deviation = site.emit(Sqrt(), site.emit(Add(), variance, site.constant(epsilon, x)))
    y = site.emit(Div(), site.emit(Sub(), x, mean), deviation)
    return scaled_sum(site, y, scale, bias)


def layer_normalization(site: Site) -> list[Value]:
    """LayerNormalization, its first result only."""
    site.only(1, "its mean and deviation are not supported as results")
    op = LayerNormalization(site.integer("axis", -1), site.number("epsilon", 1e-5))
    return site.results(op, *site.inputs)


def rms_normalization(site: Site) -> list[Value]:
    """RMSNormalization (opset 23)."""
    op = RMSNormalization(site.integer("axis", -1), site.number("epsilon", 1e-5))
    return site.results(op, site.input(0), site.input(1))


def group_normalization(site: Site) -> list[Value]:
    """GroupNormalization; before opset 21 scale and bias have one number per group."""
    x, scale, bias = (site.input(i) for i in range(3))
    groups = site.integer("num_groups", 1)
    if site.opset < 21:
        channels = x.type.shape[1]
        if not isinstance(channels, int):
            raise Unsupported(f"the number of channels {channels!r} is not known")
        scale, bias = (_per_channel(site, v, channels // groups) for v in (scale, bias))
    return site.results(GroupNormalization(groups, site.number("epsilon", 1e-5)), x, scale, bias)


def _per_channel(site: Site, v: Value, repeat: int) -> Value:
    if v.data is not None:
        return site.constant(np.repeat(v.data, repeat))
    wide = site.emit(Expand((1, repeat)), site.emit(Unsqueeze((1,)), v))
    return site.emit(Reshape((-1,)), wide)


def mean_variance_normalization(site: Site) -> list[Value]:
    """MeanVarianceNormalization: ``(x - mean) / (deviation + 1e-9)``."""
    x, axes = site.input(0), site.ints("axes") or (0, 2, 3)
    centred = site.emit(Sub(), x, site.emit(ReduceMean(axes), x))
    variance = site.emit(ReduceMean(axes), site.emit(Mul(), centred, centred))
    deviation = site.emit(Add(), site.emit(Sqrt(), variance), site.constant(1e-9, x))
    return site.results(Div(), centred, deviation)


def softmax(site: Site) -> list[Value]:
    """Softmax along ``axis``; before opset 13 over all axes from it on."""
    return _along(site, Softmax)


def log_softmax(site: Site) -> list[Value]:
    """LogSoftmax along ``axis``; before opset 13 over all axes from it on."""
    return _along(site, LogSoftmax)


def hardmax(site: Site) -> list[Value]:
    """Hardmax along ``axis``; before opset 13 over all axes from it on."""
    return _along(site, Hardmax)


def _along(site: Site, op: Callable[[int], Op]) -> list[Value]:
    x = site.input(0)
    axis = site.integer("axis", -1 if site.opset >= 13 else 1)
    if site.opset >= 13:
        return site.results(op(axis), x)
    axis = x.type.rank if axis == x.type.rank else normal_axis(axis, x.type.rank)
    wide = [i for i in range(axis, x.type.rank) if x.type.shape[i] != 1]
    if len(wide) <= 1 and axis < x.type.rank:
        return site.results(op(wide[0] if wide else axis), x)
    flat = site.emit(op(1), site.emit(Flatten(axis), x))
    return site.results(Reshape(), flat, site.emit(Shape(), x))
