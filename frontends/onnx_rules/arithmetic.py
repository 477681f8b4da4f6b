"""Import rules for elementwise ops whose ONNX form differs from ours."""

import numpy as np
from onnx import TensorProto, helper

from ...ir.graph import Value
from ...ir.ops.activation import Sigmoid, Silu
from ...ir.ops.base import Op, normal_axis
from ...ir.ops.elementwise import Cast, Clip, Max, Min, Mul, PRelu, Sub, Where
from ...ir.ops.logic import Greater, Less
from ...ir.ops.narrow import BitCast
from ...ir.ops.shape import ConstantOfShape, Shape, Unsqueeze
from ...ir.types import DTYPES
from ..onnx_site import Rule, Site, Unsupported
from .direct import direct

_LARGEST = float(np.finfo(np.float32).max)


def identity(site: Site) -> list[Value]:
    """Identity: no node at all."""
    return [site.input(0)]


def dropout(site: Site) -> list[Value]:
    """Dropout at inference: no node; its mask is all true."""
    training = site.static(2, "the training mode")
    if training is not None and bool(training):
        raise Unsupported("training mode is not supported; export the network for inference")
    if not site.wants(1):
        return [site.input(0)]
    shape = site.emit(Shape(), site.input(0))
    return [site.input(0), site.emit(ConstantOfShape(True, "bool"), shape)]


def element_type(code: int) -> str:
    """Our element type for an ONNX one; half precision is computed in float32."""
    if code in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return "float32"
    try:
        name = np.dtype(helper.tensor_dtype_to_np_dtype(code)).name
    except (KeyError, TypeError):
        name = "?"
    if name not in DTYPES or code == TensorProto.STRING:
        raise Unsupported(f"element type {TensorProto.DataType.Name(code)} is not supported")
    return name


def cast(site: Site) -> list[Value]:
    """Cast; one that changes nothing vanishes."""
    return _cast(site, element_type(site.integer("to", TensorProto.FLOAT)))


def cast_like(site: Site) -> list[Value]:
    """CastLike: the element type of the second operand."""
    return _cast(site, site.input(1).type.dtype)


def _cast(site: Site, to: str) -> list[Value]:
    x = site.input(0)
    op = Cast(to, site.flag("saturate", True), site.text("round_mode", "up"))
    return [x] if x.type.dtype == to else site.results(op, x)


def bit_cast(site: Site) -> list[Value]:
    """BitCast; not of half precision that is computed in float32."""
    x, code = site.input(0), site.integer("to", TensorProto.FLOAT)
    halves: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
    half = halves.get(code)
    if x.producer is not None and x.type.dtype == "float32":
        source = x.producer.inputs[0]
        if x.producer.op == Cast("float32") and source is not None and source.type.itemsize == 2:
            x = source
    if half is not None:
        return site.results(Cast("float32"), site.emit(BitCast(half), x))
    return site.results(BitCast(element_type(code)), x)


def clip(site: Site) -> list[Value]:
    """Clip: bounds are attributes before opset 11; dynamic ones become Max and Min."""
    x = site.input(0)
    if site.opset < 11:
        low, high = site.number("min", -_LARGEST), site.number("max", _LARGEST)
        return site.results(
            Clip(None if low <= -_LARGEST else low, None if high >= _LARGEST else high), x
        )
    bounds = [site.optional(i) for i in (1, 2)]
    known = [site.builder.static(v) for v in bounds]
    if all(v is None or k is not None for v, k in zip(bounds, known, strict=True)):
        first, second = (None if k is None else k.reshape(()).item() for k in known)
        return site.results(Clip(first, second), x)
    if bounds[0] is not None:
        x = site.emit(Max(), x, bounds[0])
    if bounds[1] is not None:
        x = site.emit(Min(), x, bounds[1])
    return [x]


def binary(op: type[Op]) -> Rule:
    """A rule for ``op`` of two operands; before opset 7 ``axis`` says where the second lies."""
    plain = direct(op)

    def rule(site: Site) -> list[Value]:
        if site.opset >= 7 or "axis" not in site.attributes:
            return list(plain(site))
        a, b = site.input(0), site.input(1)
        after = a.type.rank - b.type.rank - normal_axis(site.integer("axis", 0), a.type.rank)
        return site.results(op(), a, _trailing_ones(site, b, after))

    rule.__doc__ = plain.__doc__
    return rule


def prelu(site: Site) -> list[Value]:
    """`PRelu`; before opset 7 a vector of slopes belongs to the channels."""
    x, slope = site.input(0), site.input(1)
    if site.opset < 7 and slope.type.rank == 1 and slope.type.shape != (1,):
        slope = _trailing_ones(site, slope, x.type.rank - 2)
    return site.results(PRelu(), x, slope)


def _trailing_ones(site: Site, x: Value, count: int) -> Value:
    axes = tuple(range(x.type.rank, x.type.rank + count))
    return site.emit(Unsqueeze(axes), x) if count > 0 else x


def swish(site: Site) -> list[Value]:
    """Swish (opset 24): ``x * sigmoid(alpha * x)``."""
    x, alpha = site.input(0), site.number("alpha", 1.0)
    if alpha == 1:
        return site.results(Silu(), x)
    gate = site.emit(Sigmoid(), site.emit(Mul(), x, site.constant(alpha, x)))
    return site.results(Mul(), x, gate)


def shrink(site: Site) -> list[Value]:
    """Shrink: towards zero by ``bias`` beyond ``lambd``, zero within."""
    x = site.input(0)
    lambd, bias = site.number("lambd", 0.5), site.number("bias", 0.0)
    zero = site.constant(0, x)
    above = site.emit(Sub(), x, site.constant(bias, x))
    below = site.emit(Sub(), x, site.constant(-bias, x))
    low = site.emit(Where(), site.emit(Less(), x, site.constant(-lambd, x)), below, zero)
    return site.results(Where(), site.emit(Greater(), x, site.constant(lambd, x)), above, low)
