"""Import rules for onnxruntime's quantized operators of domain ``com.microsoft``.

Each is Dequantize, the float op and Quantize, as the standard ``QLinearConv`` is.
"""

from collections.abc import Callable
from dataclasses import replace

from ...ir.graph import Value
from ...ir.ops.activation import LeakyRelu, Sigmoid
from ...ir.ops.base import Op
from ...ir.ops.elementwise import Add, Mul
from ...ir.ops.nn import Gemm
from ...ir.ops.norm import Softmax
from ...ir.ops.pool import AveragePool, GlobalAveragePool
from ...ir.ops.shape import Concat
from ..onnx_site import Rule, Site, Unsupported
from .layers import pooled
from .quantization import dequantize_linear, dequantized, quantize_linear, quantized


def _real(site: Site, at: int, axis: int = 1) -> Value:
    """The reals of the operand at ``at``, whose scale and zero point follow it."""
    return dequantized(site, site.input(at), site.input(at + 1), site.optional(at + 2), axis)


def _codes(site: Site, y: Value, at: int) -> list[Value]:
    return quantized(site, y, site.input(at), site.optional(at + 1))


def _binary(op: type[Op]) -> Rule:
    def rule(site: Site) -> list[Value]:
        return _codes(site, site.emit(op(), _real(site, 0), _real(site, 3)), 6)

    return rule


def _unary(make: Callable[[Site], Op]) -> Rule:
    def rule(site: Site) -> list[Value]:
        if site.flag("channels_last"):
            raise Unsupported("channels last is not supported; quantize with channels first")
        return _codes(site, site.emit(make(site), _real(site, 0)), 3)

    return rule


def _average_pool(site: Site) -> Op:
    op = pooled(site, AveragePool)
    assert isinstance(op, AveragePool)
    return replace(op, count_include_pad=site.flag("count_include_pad"))


def _concat(site: Site) -> list[Value]:
    parts = [_real(site, i) for i in range(2, len(site.inputs), 3)]
    return _codes(site, site.emit(Concat(site.integer("axis", 0)), *parts), 0)


def _gemm(site: Site) -> list[Value]:
    """The bias has the scale of the products; without a scale the result is real."""
    turned = site.flag("transB")
    a, b, bias = _real(site, 0), _real(site, 3, 0 if turned else 1), site.optional(6)
    if bias is not None:
        scale = site.emit(Mul(), site.input(1), site.input(4))
        bias = dequantized(site, bias, scale, None, 0)
    op = Gemm(site.number("alpha", 1.0), 1.0, site.flag("transA"), turned)
    if site.optional(7) is None:
        return site.results(op, a, b, bias)
    return _codes(site, site.emit(op, a, b, bias), 7)


CONTRIB: dict[str, Rule] = {
    "DequantizeLinear": dequantize_linear,
    "QGemm": _gemm,
    "QLinearAdd": _binary(Add),
    "QLinearAveragePool": _unary(_average_pool),
    "QLinearConcat": _concat,
    "QLinearGlobalAveragePool": _unary(lambda site: GlobalAveragePool()),
    "QLinearLeakyRelu": _unary(lambda site: LeakyRelu(site.number("alpha", 0.01))),
    "QLinearMul": _binary(Mul),
    "QLinearSigmoid": _unary(lambda site: Sigmoid()),
    "QLinearSoftmax": _unary(lambda site: Softmax(site.integer("axis", -1))),
    "QuantizeLinear": quantize_linear,
}
"""Operators of domain ``com.microsoft``."""
