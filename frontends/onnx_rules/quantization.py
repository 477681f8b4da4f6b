"""Import rules for quantized graphs: constant scales become attributes."""

import numpy as np

from ...ir.graph import Value
from ...ir.ops.elementwise import Cast, Mul, Sub
from ...ir.ops.quantize import RANGES, Dequantize, DynamicQuantize, Quantize
from ...ir.ops.shape import Reshape
from ...ir.types import Array
from ..onnx_site import Site, Unsupported
from .arithmetic import element_type


def quantize_linear(site: Site) -> list[Value]:
    """QuantizeLinear with constant scale and zero point."""
    scale, zero = site.static(1, "the scale"), site.static(2, "the zero point")
    code = site.integer("output_dtype", 0)
    dtype = zero.dtype.name if zero is not None else element_type(code) if code else "uint8"
    return site.results(Quantize(*_grid(site, scale, zero), _codes(dtype)), site.input(0))


def dequantize_linear(site: Site) -> list[Value]:
    """DequantizeLinear; one whose scale is not constant becomes ``(q - zero) * scale``."""
    q = site.input(0)
    _codes(q.type.dtype)
    if site.builder.static(site.input(1)) is None:
        if site.input(1).type.size != 1:
            raise Unsupported("several scales that are not constant are not supported")
        x = site.emit(Cast("float32"), q)
        zero = site.optional(2)
        if zero is not None:
            x = site.emit(Sub(), x, site.emit(Cast("float32"), zero))
        return site.results(Mul(), x, site.input(1))
    scale, zero_point = site.static(1, "the scale"), site.static(2, "the zero point")
    return site.results(Dequantize(*_grid(site, scale, zero_point)), q)


def dynamic_quantize_linear(site: Site) -> list[Value]:
    """DynamicQuantizeLinear: one scale for the whole tensor, a scalar."""
    names = [site.outputs[0], f"{site.outputs[0]}.scale", f"{site.outputs[0]}.zero"]
    q, scale, zero = site.builder.emit(DynamicQuantize(0), [site.input(0)], names, site.origin)
    scalars = (
        site.builder.emit(Reshape(()), [v], [name], site.origin)[0]
        for v, name in zip((scale, zero), (*site.outputs[1:], "", ""), strict=False)
    )
    return [q, *scalars]


def _codes(dtype: str) -> str:
    if dtype not in RANGES:
        raise Unsupported(f"codes of type {dtype} are not supported")
    return dtype


def _grid(
    site: Site, scale: Array | None, zero: Array | None
) -> tuple[tuple[float, ...], tuple[int, ...], int | None]:
    """Scales, zero points and axis."""
    if scale is None or not np.isfinite(scale).all() or not (scale > np.float32(0)).all():
        raise site.error("its scales are not all positive and finite")
    if site.integer("block_size", 0) or scale.ndim > 1:
        raise Unsupported("blocked quantization is not supported")
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
