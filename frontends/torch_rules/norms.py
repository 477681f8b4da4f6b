"""Import rules for normalisations and softmax; missing scales are ones, missing shifts zeros."""

from collections.abc import Callable

import numpy as np

from ...ir.graph import Value
from ...ir.ops.base import Op, normal_axis
from ...ir.ops.norm import (
    BatchNormalization,
    GroupNormalization,
    InstanceNormalization,
    LayerNormalization,
    RMSNormalization,
)  # fmt: skip
from ..onnx_site import Unsupported
from ..torch_site import Rule, Site


def batch_norm(site: Site) -> list[Value | None]:
    """`BatchNormalization`, with running statistics."""
    if site.flag("training"):
        raise Unsupported("training mode; call module.eval() before the export")
    x = site.value("input")
    scale, bias = _affine(site, x)
    mean, variance = site.optional("running_mean"), site.optional("running_var")
    if mean is None or variance is None:
        raise Unsupported("it has no running statistics (track_running_stats=False)")
    op = BatchNormalization(site.number("eps"))
    names = site.outputs[:1]
    found = site.builder.emit(op, [x, scale, bias, mean, variance], names, site.origin)
    return [*found, *(None for _ in site.outputs[1:])]


def instance_norm(site: Site) -> list[Value]:
    """`InstanceNormalization`; `BatchNormalization` with running statistics."""
    x = site.value("input")
    scale, bias = _affine(site, x)
    if site.flag("use_input_stats"):
        return site.results(InstanceNormalization(site.number("eps")), x, scale, bias)
    statistics = [site.value(n) for n in ("running_mean", "running_var")]
    return site.results(BatchNormalization(site.number("eps")), x, scale, bias, *statistics)


def group_norm(site: Site) -> list[Value | None]:
    """`GroupNormalization`, its first result only."""
    x = site.value("input")
    groups = site.integer("num_groups" if site.has("num_groups") else "group")
    op, names = GroupNormalization(groups, site.number("eps")), site.outputs
    found = site.builder.emit(op, [x, *_affine(site, x)], names[:1], site.origin)
    return [*found, *(None for _ in names[1:])]


def _affine(site: Site, x: Value) -> tuple[Value, Value]:
    """Scale and bias of each channel."""
    channels = x.type.shape[1]
    if not isinstance(channels, int):
        raise Unsupported(f"the number of channels {channels!r} is not known")
    scale, bias = site.optional("weight"), site.optional("bias")
    return (
        site.constant(np.ones(channels, x.type.dtype)) if scale is None else scale,
        site.constant(np.zeros(channels, x.type.dtype)) if bias is None else bias,
    )


def layer_norm(site: Site) -> list[Value | None]:
    """`LayerNormalization` over the last axes, its first result only."""
    x, shape = site.value("input"), site.ints("normalized_shape")
    scale, bias = site.optional("weight"), site.optional("bias")
    if scale is None:
        scale = site.constant(np.ones(shape, x.type.dtype))
    op = LayerNormalization(-len(shape), site.number("eps"))
    operands, names = [x, scale, *([] if bias is None else [bias])], site.outputs
    found = site.builder.emit(op, operands, names[:1], site.origin)
    return [*found, *(None for _ in names[1:])]


def rms_norm(site: Site) -> list[Value]:
    """`RMSNormalization` over the last axes."""
    x, shape = site.value("input"), site.ints("normalized_shape")
    scale = site.optional("weight")
    if scale is None:
        scale = site.constant(np.ones(shape, x.type.dtype))
    epsilon = site.number("eps") if site.has("eps") else float(np.finfo(x.type.dtype).eps)
    return site.results(RMSNormalization(-len(shape), epsilon), x, scale)


def along(op: Callable[[int], Op]) -> Rule:
    """``op`` along one axis."""

    def rule(site: Site) -> list[Value]:
        (x,) = site.operands("self", dtype=site.dtype)
        return site.results(op(normal_axis(site.integer("dim"), x.type.rank)), x)

    rule.__doc__ = f"`{getattr(op, '__name__', '')}`"
    return rule
