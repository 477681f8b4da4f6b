"""Elementwise ops of float islands (and of leftover integer and boolean arithmetic)."""

from collections.abc import Callable
from functools import reduce
from math import pi, sqrt
from typing import Any

from tvm import tirx

from . import functions as fn
from .loops import Expr, Frame
from .pointwise import Formula, f32

Unary = Callable[[Any, Expr], Expr]
"""From the op and the operand's element to the result."""

Binary = Callable[[Any, Expr, Expr], Expr]


def zero_of(x: Expr) -> Expr:
    """Zero of the type of ``x``."""
    return tirx.const(0, x.ty.dtype)


def _leaky(x: Expr, alpha: float, below: Expr | None = None) -> Expr:
    return tirx.Select(x < f32(0), f32(alpha) * (x if below is None else below), x)


def _expm1(x: Expr) -> Expr:
    return fn.libm("expm1f", x)


def _clip(op: Any, x: Expr) -> Expr:
    dtype = x.ty.dtype
    if op.min is not None:
        x = tirx.max(x, tirx.const(op.min, dtype))
    return x if op.max is None else tirx.min(x, tirx.const(op.max, dtype))


def _gelu(op: Any, x: Expr) -> Expr:
    if op.approximate == "tanh":
        half = f32(1) + fn.tanh(f32(sqrt(2 / pi)) * (x + f32(0.044715) * x * x * x))
    else:
        half = f32(1) + fn.erf(x * f32(sqrt(0.5)))
    return f32(0.5) * x * half


def _sign(x: Expr) -> Expr:
    one = tirx.const(1, x.ty.dtype)
    return tirx.Select(x > zero_of(x), one, tirx.Select(x < zero_of(x), -one, zero_of(x)))


UNARY: dict[str, Unary] = {
    "Relu": lambda op, x: tirx.max(x, zero_of(x)),
    "LeakyRelu": lambda op, x: _leaky(x, op.alpha),
    "Elu": lambda op, x: _leaky(x, op.alpha, _expm1(x)),
    "Selu": lambda op, x: f32(op.gamma) * _leaky(x, op.alpha, _expm1(tirx.min(x, f32(0)))),
    "Celu": lambda op, x: _leaky(x, op.alpha, _expm1(tirx.min(x, f32(0)) / f32(op.alpha))),
    "ThresholdedRelu": lambda op, x: tirx.Select(x > f32(op.alpha), x, f32(0)),
    "Sigmoid": lambda op, x: fn.sigmoid(x),
    "HardSigmoid": lambda op, x: tirx.min(
        tirx.max(f32(op.alpha) * x + f32(op.beta), f32(0)), f32(1)
    ),
    "HardSwish": lambda op, x: x * tirx.min(tirx.max(x / f32(6) + f32(0.5), f32(0)), f32(1)),
    "Silu": lambda op, x: fn.silu(x),
    "Tanh": lambda op, x: fn.tanh(x),
    "Softplus": lambda op, x: fn.softplus(x),
    "Softsign": lambda op, x: x / (f32(1) + tirx.abs(x)),
    "Mish": lambda op, x: x * fn.tanh(fn.softplus(x)),
    "Gelu": _gelu,
    "Erf": lambda op, x: fn.erf(x),
    "Exp": lambda op, x: fn.exp(x),
    "Log": lambda op, x: fn.libm("logf", x),
    "Sqrt": lambda op, x: tirx.sqrt(x),
    "Reciprocal": lambda op, x: f32(1) / x,
    "Neg": lambda op, x: -x,
    "Abs": lambda op, x: tirx.abs(x),
    "Sign": lambda op, x: _sign(x),
    "Floor": lambda op, x: tirx.floor(x),
    "Ceil": lambda op, x: tirx.ceil(x),
    "Round": lambda op, x: tirx.nearbyint(x),
    "Sin": lambda op, x: fn.libm("sinf", x),
    "Cos": lambda op, x: fn.libm("cosf", x),
    "Tan": lambda op, x: fn.libm("tanf", x),
    "Asin": lambda op, x: fn.libm("asinf", x),
    "Acos": lambda op, x: fn.libm("acosf", x),
    "Atan": lambda op, x: fn.libm("atanf", x),
    "Sinh": lambda op, x: fn.libm("sinhf", x),
    "Cosh": lambda op, x: fn.libm("coshf", x),
    "Asinh": lambda op, x: fn.libm("asinhf", x),
    "Acosh": lambda op, x: fn.libm("acoshf", x),
    "Atanh": lambda op, x: fn.libm("atanhf", x),
    "Identity": lambda op, x: x,
    "Clip": _clip,
    "Not": lambda op, x: tirx.Cast("uint8", x.equal(zero_of(x))),
    "IsNaN": lambda op, x: tirx.Cast("uint8", _is_nan(x)),
}
"""Functions of one element, by the op's name."""

BINARY: dict[str, Binary] = {
    "Add": lambda op, a, b: a + b,
    "Sum": lambda op, a, b: a + b,
    "Sub": lambda op, a, b: a - b,
    "Mul": lambda op, a, b: a * b,
    "Div": lambda op, a, b: a / b if "float" in a.ty.dtype else tirx.truncdiv(a, b),
    "Min": lambda op, a, b: tirx.min(a, b),
    "Max": lambda op, a, b: tirx.max(a, b),
    "PRelu": lambda op, a, b: tirx.Select(a < zero_of(a), a * b, a),
    "Equal": lambda op, a, b: a.equal(b),
    "Greater": lambda op, a, b: a > b,
    "Less": lambda op, a, b: a < b,
    "GreaterOrEqual": lambda op, a, b: a >= b,
    "LessOrEqual": lambda op, a, b: a <= b,
    "And": lambda op, a, b: tirx.And(_true(a), _true(b)),
    "Or": lambda op, a, b: tirx.Or(_true(a), _true(b)),
    "Xor": lambda op, a, b: _unlike(_true(a), _true(b)),
    "BitwiseAnd": lambda op, a, b: a & b,
    "BitwiseOr": lambda op, a, b: a | b,
    "BitwiseXor": lambda op, a, b: a ^ b,
    "Pow": lambda op, a, b: _pow(a, b),
    "Mod": lambda op, a, b: _mod(op, a, b),
}
"""Functions of two elements; ``Sum``, ``Min``, ``Max`` fold any number of operands."""


def _true(x: Expr) -> Expr:
    return tirx.Not(x.equal(zero_of(x)))


def _unlike(a: Expr, b: Expr) -> Expr:
    """Whether one of two conditions holds; LLVM is given no comparison of such."""
    return tirx.Or(tirx.And(a, tirx.Not(b)), tirx.And(tirx.Not(a), b))


def _mod(op: Any, a: Expr, b: Expr) -> Expr:
    if "float" not in a.ty.dtype:
        return tirx.truncmod(a, b) if op.fmod else tirx.floormod(a, b)
    rest = fn.libm("fmodf", a, b)
    if op.fmod:
        return rest
    rest, zero = fn.held(rest), zero_of(a)
    unlike = _unlike(rest < zero, b < zero)
    return tirx.Select(tirx.And(tirx.Not(rest.equal(zero)), unlike), rest + b, rest)


def _pow(a: Expr, b: Expr) -> Expr:
    """In float32, powers of integers in float64: exact up to 2**53."""
    if "float" in a.ty.dtype:
        return fn.libm("powf", a, tirx.Cast(a.ty.dtype, b))
    wide = fn.libm("powf", tirx.Cast("float64", a), tirx.Cast("float64", b))
    return tirx.Cast(a.ty.dtype, wide)


def _is_nan(x: Expr) -> Expr:
    """By its bits: ``x != x`` is simplified away."""
    if "float" not in x.ty.dtype:
        return tirx.const(False, "bool")
    bits = int(x.ty.dtype.removeprefix("float"))
    mantissa = {16: 10, 32: 23, 64: 52}[bits]
    infinity = (2 ** (bits - 1 - mantissa) - 1) << mantissa
    size = tirx.reinterpret(f"int{bits}", x) & tirx.const(2 ** (bits - 1) - 1, f"int{bits}")
    return size > tirx.const(infinity, f"int{bits}")


def formula_of(op: Any) -> Formula | None:
    """The formula of an elementwise op, if it is one."""
    if (unary := UNARY.get(op.name)) is not None:
        return lambda frame, at: _unary(op, unary, frame.load(0, at[0]))
    if (binary := BINARY.get(op.name)) is not None:
        return lambda frame, at: reduce(lambda a, b: binary(op, a, b), _elements(frame, at))
    return {"Mean": _mean, "Where": _where, "Cast": _cast}.get(op.name, lambda _: None)(op)


DOUBLE = {"Exp": "exp", "Log": "log"}
"""Functions of float64, by their names in C; others have none but arithmetic."""


def _unary(op: Any, function: Unary, x: Expr) -> Expr:
    if x.ty.dtype == "float64" and op.name in DOUBLE:
        return tirx.call_pure_extern("float64", DOUBLE[op.name], x)
    return function(op, x)


def _elements(frame: Frame, at: list[Expr]) -> list[Expr]:
    return [frame.load(i, index) for i, index in enumerate(at)]


def _mean(op: Any) -> Formula:
    def formula(frame: Frame, at: list[Expr]) -> Expr:
        return reduce(lambda a, b: a + b, _elements(frame, at)) / f32(len(at))

    return formula


def _where(op: Any) -> Formula:
    def formula(frame: Frame, at: list[Expr]) -> Expr:
        condition, a, b = _elements(frame, at)
        return tirx.Select(_true(condition), a, b)

    return formula


def _cast(op: Any) -> Formula:
    def formula(frame: Frame, at: list[Expr]) -> Expr:
        x = frame.load(0, at[0])
        return tirx.Cast("uint8", _true(x)) if op.to == "bool" else tirx.Cast(op.to, x)

    return formula
