"""Import rules for arithmetic, comparisons and logic, element by element."""

from collections.abc import Sequence

import numpy as np

from ...ir.graph import Value
from ...ir.ops.activation import Tanh
from ...ir.ops.base import Op
from ...ir.ops.elementwise import (
    Abs,
    Add,
    Ceil,
    Clip,
    Div,
    Exp,
    Floor,
    Log,
    Max,
    Min,
    Mod,
    Mul,
    Pow,
    Reciprocal,
    Sqrt,
    Sub,
    Where,
)  # fmt: skip
from ...ir.ops.logic import (
    And,
    Atanh,
    BitwiseAnd,
    BitwiseNot,
    BitwiseOr,
    BitwiseXor,
    Equal,
    Less,
    Not,
    Or,
    Xor,
)  # fmt: skip
from ..onnx_site import Unsupported
from ..torch_site import Rule, Site


def unary(op: type[Op]) -> Rule:
    """A function of one operand, in the type of the result."""

    def rule(site: Site) -> list[Value]:
        return site.results(op(), *site.operands("self", dtype=site.dtype))

    rule.__doc__ = f"`{op.__name__}`"
    return rule


def predicate(op: type[Op]) -> Rule:
    """A truth about one operand."""

    def rule(site: Site) -> list[Value]:
        return site.results(op(), site.value("self"))

    rule.__doc__ = f"`{op.__name__}`"
    return rule


def binary(op: type[Op]) -> Rule:
    """A function of two operands, in the type of the result."""

    def rule(site: Site) -> list[Value]:
        return site.results(op(), *site.operands("self", "other", dtype=site.dtype))

    rule.__doc__ = f"`{op.__name__}`"
    return rule


def comparison(op: type[Op], dtype: str | None = None) -> Rule:
    """A truth about two operands, in the type that torch promotes them to (or ``dtype``)."""

    def rule(site: Site) -> list[Value]:
        return site.results(op(), *site.operands("self", "other", dtype=dtype))

    rule.__doc__ = f"`{op.__name__}`"
    return rule


def not_equal(site: Site) -> list[Value]:
    """`Equal`, negated."""
    return site.results(Not(), site.emit(Equal(), *site.operands("self", "other")))


def bitwise(logical: type[Op], bits: type[Op]) -> Rule:
    """Logic for bools, bits for integers."""

    def rule(site: Site) -> list[Value]:
        op = logical if site.dtype == "bool" else bits
        return site.results(op(), *site.operands("self", "other", dtype=site.dtype))

    rule.__doc__ = f"`{logical.__name__}` of bools, `{bits.__name__}` of integers"
    return rule


bitwise_and = bitwise(And, BitwiseAnd)
bitwise_or = bitwise(Or, BitwiseOr)
bitwise_xor = bitwise(Xor, BitwiseXor)


def bitwise_not(site: Site) -> list[Value]:
    """`Not` of bools, `BitwiseNot` of integers."""
    op = Not() if site.dtype == "bool" else BitwiseNot()
    return site.results(op, site.value("self"))


def logical_not(site: Site) -> list[Value]:
    """`Not`, of anything as a bool."""
    return site.results(Not(), *site.operands("self", dtype="bool"))


def add(site: Site) -> list[Value]:
    """`Add`; ``alpha`` multiplies the second operand."""
    a, b = _scaled(site, "self", "other")
    return site.results(Add(), a, b)


def sub(site: Site) -> list[Value]:
    """`Sub`; ``alpha`` multiplies the second operand."""
    a, b = _scaled(site, "self", "other")
    return site.results(Sub(), a, b)


def rsub(site: Site) -> list[Value]:
    """`Sub`, operands exchanged."""
    b, a = _scaled(site, "other", "self")
    return site.results(Sub(), b, a)


def _scaled(site: Site, first: str, second: str) -> list[Value]:
    values = site.operands(first, second, dtype=site.dtype)
    alpha = site.arguments.get("alpha", 1)
    if alpha == 1:
        return values
    at = (first, second).index("self") ^ 1
    values[at] = site.emit(Mul(), values[at], site.tensor(alpha, site.dtype))
    return values


def div(site: Site) -> list[Value]:
    """`Div`; rounded down or towards zero if asked."""
    a, b = site.operands("self", "other", dtype=site.dtype)
    mode = site.arguments.get("rounding_mode")
    if mode is None:
        return site.results(Div(), a, b)
    if mode == "floor":
        return _floored(site, a, b)
    if a.type.is_float:
        return site.results(*_truncated(site, site.emit(Div(), a, b)))
    return site.results(Div(), a, b)


def floor_divide(site: Site) -> list[Value]:
    """`Div`, rounded down."""
    return _floored(site, *site.operands("self", "other", dtype=site.dtype))


def _floored(site: Site, a: Value, b: Value) -> list[Value]:
    if a.type.is_float:
        return site.results(Floor(), site.emit(Div(), a, b))
    return site.results(Div(), site.emit(Sub(), a, site.emit(Mod(), a, b)), b)


def trunc(site: Site) -> list[Value]:
    """`Ceil` of negative numbers, `Floor` of others; integers as they are."""
    x = site.value("self")
    return site.results(*_truncated(site, x)) if x.type.is_float else [x]


def _truncated(site: Site, x: Value) -> tuple[Op, Value, Value, Value]:
    below = site.emit(Less(), x, site.tensor(0, x.type.dtype))
    return Where(), below, site.emit(Ceil(), x), site.emit(Floor(), x)


def remainder(site: Site) -> list[Value]:
    """`Mod`, with the sign of the divisor."""
    return site.results(Mod(), *site.operands("self", "other", dtype=site.dtype))


def fmod(site: Site) -> list[Value]:
    """`Mod`, with the sign of the dividend."""
    return site.results(Mod(fmod=True), *site.operands("self", "other", dtype=site.dtype))


def power(site: Site) -> list[Value]:
    """`Pow`; `Sqrt` and `Reciprocal` where the exponent says so."""
    exponent = site.arguments.get("exponent")
    a, b = site.operands("self", "exponent", dtype=site.dtype)
    if isinstance(exponent, int | float) and a.type.is_float:
        match float(exponent):
            case 1.0:
                return [a]
            case 0.5:
                return site.results(Sqrt(), a)
            case -0.5:
                return site.results(Reciprocal(), site.emit(Sqrt(), a))
            case -1.0:
                return site.results(Reciprocal(), a)
    return site.results(Pow(), a, b)


def rsqrt(site: Site) -> list[Value]:
    """`Reciprocal` of `Sqrt`."""
    (x,) = site.operands("self", dtype=site.dtype)
    return site.results(Reciprocal(), site.emit(Sqrt(), x))


def logarithm(base: float) -> Rule:
    """The logarithm to ``base``."""

    def rule(site: Site) -> list[Value]:
        (x,) = site.operands("self", dtype=site.dtype)
        factor = site.constant(np.asarray(1 / np.log(base), site.dtype))
        return site.results(Mul(), site.emit(Log(), x), factor)

    rule.__doc__ = "`Log` times a constant"
    return rule


def log1p(site: Site) -> list[Value]:
    """`Log` of ``1 + x``; near zero ``2 atanh(x / (2 + x))``."""
    (x,) = site.operands("self", dtype=site.dtype)
    one, two, half = (site.tensor(c, site.dtype) for c in (1.0, 2.0, 0.5))
    ratio = site.emit(Div(), x, site.emit(Add(), x, two))
    near = site.emit(Mul(), site.emit(Atanh(), ratio), two)
    far = site.emit(Log(), site.emit(Add(), x, one))
    return site.results(Where(), site.emit(Less(), site.emit(Abs(), x), half), near, far)


def expm1(site: Site) -> list[Value]:
    """`Exp` minus 1; near zero ``2 t / (1 - t)`` with ``t = tanh(x / 2)``."""
    (x,) = site.operands("self", dtype=site.dtype)
    one, two, half = (site.tensor(c, site.dtype) for c in (1.0, 2.0, 0.5))
    t = site.emit(Tanh(), site.emit(Mul(), x, half))
    near = site.emit(Div(), site.emit(Mul(), t, two), site.emit(Sub(), one, t))
    far = site.emit(Sub(), site.emit(Exp(), x), one)
    return site.results(Where(), site.emit(Less(), site.emit(Abs(), x), half), near, far)


def exp2(site: Site) -> list[Value]:
    """`Exp` of ``x`` times ``log(2)``."""
    (x,) = site.operands("self", dtype=site.dtype)
    factor = site.constant(np.asarray(np.log(2), site.dtype))
    return site.results(Exp(), site.emit(Mul(), x, factor))


def clamp(site: Site) -> list[Value]:
    """`Clip`; bounds that are tensors become `Max` and `Min`."""
    (x,) = site.operands("self", dtype=site.dtype)
    low, high = site.arguments.get("min"), site.arguments.get("max")
    if all(isinstance(b, int | float | None) for b in (low, high)):
        return site.results(Clip(_bound(low), _bound(high)), x)
    if low is not None:
        x = site.emit(Max(), x, site.tensor(low, site.dtype))
    return [x] if high is None else site.results(Min(), x, site.tensor(high, site.dtype))


def _bound(b: object) -> float | None:
    if isinstance(b, float) and np.isinf(b):
        return None
    return b if isinstance(b, int | float) else None


def where(site: Site) -> list[Value]:
    """`Where`."""
    (condition,) = site.operands("condition", dtype="bool")
    return site.results(Where(), condition, *site.operands("self", "other", dtype=site.dtype))


def masked_fill(site: Site) -> list[Value]:
    """`Where`."""
    (mask,) = site.operands("mask", dtype="bool")
    x, fill = site.operands("self", "value", dtype=site.dtype)
    return site.results(Where(), mask, fill, x)


def cast(site: Site) -> list[Value]:
    """`Cast`; no node where the element type stays (half precision is computed in float32)."""
    if site.dtype.startswith("complex"):
        raise Unsupported("complex numbers are not supported")
    return [site.cast(site.value("self"), site.dtype)]


def identity(site: Site) -> Sequence[Value]:
    """No node at all."""
    return [site.value("self")]


def dropout(site: Site) -> Sequence[Value]:
    """No node at all; refused in training mode."""
    if site.flag("train"):
        raise Unsupported("training mode; call module.eval() before the export")
    return [site.value("input")]
