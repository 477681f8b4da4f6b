"""Import rules for quantized graphs: constant scales become attributes."""

import numpy as np

from ...ir.graph import Value
from ...ir.ops.base import Op
from ...ir.ops.linear import DequantizeLinear, QuantizeLinear
from ...ir.ops.quantize import RANGES, Dequantize, DynamicQuantize, Quantize
from ...ir.ops.shape import Reshape
from ..onnx_site import Site
from .arithmetic import element_type


def quantize_linear(site: Site) -> list[Value]:
    """`Quantize` if scale and zero point are constant, else `QuantizeLinear`."""
    return quantized(site, site.input(0), site.input(1), site.optional(2))


def quantized(site: Site, x: Value, scale: Value, zero: Value | None) -> list[Value]:
    """The node's own results: codes of ``x``."""
    code, axis = site.integer("output_dtype", 0), site.integer("axis", 1)
    dtype = zero.type.dtype if zero is not None else element_type(code) if code else "uint8"
    if dtype in RANGES and _is_plain(site, scale, zero):
        return site.results(Quantize(*_grid(site, x, scale, zero, axis), dtype), x)
    size = site.integer("block_size", 0)
    op = QuantizeLinear(axis, size, dtype, site.flag("saturate", True))
    return site.results(op, x, scale, zero)


def dequantize_linear(site: Site) -> list[Value]:
    """`Dequantize` if scale and zero point are constant, else `DequantizeLinear`."""
    q, scale, zero = site.input(0), site.input(1), site.optional(2)
    return site.results(*_dequantize(site, q, scale, zero, site.integer("axis", 1)))


def dequantized(site: Site, q: Value, scale: Value, zero: Value | None, axis: int) -> Value:
    """The reals of an operand."""
    return site.emit(*_dequantize(site, q, scale, zero, axis))


def _dequantize(
    site: Site, q: Value, scale: Value, zero: Value | None, axis: int
) -> tuple[Op, *tuple[Value | None, ...]]:
    """The op and its operands."""
    if q.type.dtype in RANGES and _is_plain(site, scale, zero):
        return Dequantize(*_grid(site, q, scale, zero, axis)), q
    return DequantizeLinear(axis, site.integer("block_size", 0)), q, scale, zero


def dynamic_quantize_linear(site: Site) -> list[Value]:
    """DynamicQuantizeLinear: one scale for the whole tensor, a scalar."""
    names = [site.outputs[0], f"{site.outputs[0]}.scale", f"{site.outputs[0]}.zero"]
    q, scale, zero = site.builder.emit(DynamicQuantize(0), [site.input(0)], names, site.origin)
    scalars = (
        site.builder.emit(Reshape(()), [v], [name], site.origin)[0]
        for v, name in zip((scale, zero), (*site.outputs[1:], "", ""), strict=False)
    )
    return [q, *scalars]


def _is_plain(site: Site, scale: Value, zero: Value | None) -> bool:
    """Whether scale and zero point are constant, and numbers or vectors."""
    grid = [site.builder.static(v) for v in (scale, zero) if v is not None]
    return all(g is not None and g.ndim <= 1 for g in grid) and not site.integer("block_size", 0)


def _grid(
    site: Site, x: Value, scale: Value, zero: Value | None, axis: int
) -> tuple[tuple[float, ...], tuple[int, ...], int | None]:
    """Scales, zero points and axis."""
    step, offset = site.builder.static(scale), site.builder.static(zero)
    if step is None or not np.isfinite(step).all() or not (step > np.float32(0)).all():
        raise site.error("its scales are not all positive and finite")
    scales = tuple(float(np.float32(s)) for s in step.ravel())
    zeros = (0,) * len(scales) if offset is None else tuple(int(z) for z in offset.ravel())
    zeros = zeros * len(scales) if len(zeros) == 1 else zeros
    if len(zeros) != len(scales):
        raise site.error(f"{len(zeros)} zero points for {len(scales)} scales")
    return scales, zeros, axis % x.type.rank if len(scales) > 1 else None
