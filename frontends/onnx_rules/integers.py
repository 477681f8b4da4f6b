"""Import rules for products of codes: the forms that quantization tools leave behind."""

from ...ir.graph import Value
from ...ir.ops.elementwise import Mul
from ...ir.ops.integer_products import ConvInteger, MatMulInteger
from ...ir.ops.nn import Conv, MatMul
from ..onnx_site import Site
from .layers import padding
from .quantization import dequantized, quantized


def matmul_integer(site: Site) -> list[Value]:
    """`MatMulInteger`"""
    return site.results(MatMulInteger(), *site.inputs)


def conv_integer(site: Site) -> list[Value]:
    """`ConvInteger`"""
    return site.results(ConvInteger(*_window(site, site.input(1))), *site.inputs)


def qlinear_matmul(site: Site) -> list[Value]:
    """QLinearMatMul: Dequantize, `MatMul`, Quantize."""
    a = dequantized(site, site.input(0), site.input(1), site.optional(2), -2)
    b = dequantized(site, site.input(3), site.input(4), site.optional(5), -1)
    product = site.emit(MatMul(), a, b)
    return quantized(site, product, site.input(6), site.input(7))


def qlinear_conv(site: Site) -> list[Value]:
    """QLinearConv: Dequantize, `Conv`, Quantize; the bias has the scale of the products."""
    x = dequantized(site, site.input(0), site.input(1), site.optional(2), 1)
    w = dequantized(site, site.input(3), site.input(4), site.optional(5), 0)
    bias = site.optional(8)
    if bias is not None:
        scale = site.emit(Mul(), site.input(1), site.input(4))
        bias = dequantized(site, bias, scale, None, 0)
    y = site.emit(Conv(*_window(site, site.input(3))), x, w, bias)
    return quantized(site, y, site.input(6), site.input(7))


def _window(site: Site, w: Value) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """Strides, pads, dilations and group."""
    kernel = w.type.static[2:]
    ones = (1,) * len(kernel)
    strides, dilations = site.ints("strides") or ones, site.ints("dilations") or ones
    return strides, padding(site, kernel, strides, dilations), dilations, site.integer("group", 1)
