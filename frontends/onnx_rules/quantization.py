"""Import rules for quantized graphs: constant scales become attributes."""

import numpy as np

from ...ir.graph import Value
from ...ir.ops.linear import DequantizeLinear, QuantizeLinear
from ...ir.ops.quantize import RANGES, Dequantize, DynamicQuantize, Quantize
from ...ir.ops.shape import Reshape
from ..onnx_site import Site
from .arithmetic import element_type


def quantize_linear(site: Site) -> list[Value]:
    """`Quantize` if scale and zero point are constant, else `QuantizeLinear`."""
    code, zero = site.integer("output_dtype", 0), site.optional(2)
    dtype = zero.type.dtype if zero is not None else element_type(code) if code else "uint8"
    if dtype in RANGES and _is_plain(site):
        return site.results(Quantize(*_grid(site), dtype), site.input(0))
    op = QuantizeLinear(
        site.integer("axis", 1), site.integer("block_size", 0), dtype, site.flag("saturate", True)
    )
    return site.results(op, *site.inputs[:3])


def dequantize_linear(site: Site) -> list[Value]:
    """`Dequantize` if scale and zero point are constant, else `DequantizeLinear`."""
    if site.input(0).type.dtype in RANGES and _is_plain(site):
        return site.results(Dequantize(*_grid(site)), site.input(0))
    op = DequantizeLinear(site.integer("axis", 1), site.integer("block_size", 0))
    return site.results(op, *site.inputs[:3])


def dynamic_quantize_linear(site: Site) -> list[Value]:
    """DynamicQuantizeLinear: one scale for the whole tensor, a scalar."""
    names = [site.outputs[0], f"{site.outputs[0]}.scale", f"{site.outputs[0]}.zero"]
    q, scale, zero = site.builder.emit(DynamicQuantize(0), [site.input(0)], names, site.origin)
    scalars = (
        site.builder.emit(Reshape(()), [v], [name], site.origin)[0]
        for v, name in zip((scale, zero), (*site.outputs[1:], "", ""), strict=False)
    )
    return [q, *scalars]


def _is_plain(site: Site) -> bool:
    """Whether scale and zero point are constant, and numbers or vectors."""
    grid = [site.builder.static(v) for v in site.inputs[1:3] if v is not None]
    return all(g is not None and g.ndim <= 1 for g in grid) and not site.integer("block_size", 0)


def _grid(site: Site) -> tuple[tuple[float, ...], tuple[int, ...], int | None]:
    """Scales, zero points and axis."""
    scale, zero = site.static(1, "the scale"), site.static(2, "the zero point")
    if scale is None or not np.isfinite(scale).all() or not (scale > np.float32(0)).all():
        raise site.error("its scales are not all positive and finite")
    scales = tuple(float(np.float32(s)) for s in scale.ravel())
    zeros = (0,) * len(scales) if zero is None else tuple(int(z) for z in zero.ravel())
    if len(zeros) != len(scales):
        raise site.error(f"{len(zeros)} zero points for {len(scales)} scales")
    axis = site.integer("axis", 1)
    return (
        scales,
        zeros,
        axis % site.input(0).type.rank if scale.ndim == 1 and len(scales) > 1 else None,
    )
