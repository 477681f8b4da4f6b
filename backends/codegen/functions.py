"""Elementary functions that LLVM vectorizes, in float32 (relative error below 5e-7).

Range reduction and polynomials are those of Cephes (S. Moshier) where nothing else is said; what
has none here is libm's.
What is used several times is held in memory (registers, once compiled): TVM writes bound names out
again, and the text of nested functions would double at every level.
"""

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .loops import Expr, local
from .pointwise import f32, i32

_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
_EXP2 = (
    1.326472714e-3, 9.671512640e-3, 5.550733743e-2, 2.402224209e-1, 6.931469776e-1, 1.0,
)  # fmt: skip
_ARTANH = (1.408916764e-1, 1.398030134e-1, 2.001245514e-1, 3.333315734e-1, 1.0)
_TANH = (
    -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1,
)  # fmt: skip


def exp(x: Expr) -> Expr:
    """``e**x``: 2**n times a polynomial; 0 and infinity beyond the range."""
    x = held(x)
    inner = tirx.min(tirx.max(x, f32(-87.33)), f32(88.72))
    n = held(tirx.min(tirx.nearbyint(inner * f32(1.44269504)), f32(127.0)))
    r = inner - n * f32(0.693359375)
    r = held(r - n * f32(-2.12194440e-4))
    power = tirx.reinterpret("float32", tirx.shift_left(tirx.Cast("int32", n) + i32(127), i32(23)))
    value = (polynomial(r, _EXP) * (r * r) + r + f32(1.0)) * power
    value = tirx.Select(x > f32(88.72283), tirx.infinity("float32"), value)
    return tirx.Select(x < f32(-87.33), f32(0.0), value)


def exp2(x: Expr) -> Expr:
    """``2**x``, in fewer and shorter steps than ``exp``; 2**-126 at least, infinity from 128 on.

    The polynomial (ours, of least greatest error) is 1 at 0, so that powers of small numbers keep
    their product over many steps.
    """
    x = held(tirx.min(tirx.max(x, f32(-126.0)), f32(128.0)))
    n = held(tirx.nearbyint(x))
    r = held(x - n)
    a, b, c, d, e, f = map(f32, _EXP2)
    square = held(r * r)
    value = ((a * r + b) * square + (c * r + d)) * square + (e * r + f)
    value = tirx.reinterpret("int32", held(value))
    exponent = tirx.shift_left(tirx.Cast("int32", n), i32(23))
    return tirx.reinterpret("float32", value + exponent)


def tanh(x: Expr) -> Expr:
    """An odd polynomial near zero, else by ``exp``."""
    x = held(x)
    size, square = tirx.abs(x), x * x
    near = x + x * square * polynomial(square, _TANH)
    far = f32(1.0) - f32(2.0) / (exp(size + size) + f32(1.0))
    return tirx.Select(size < f32(0.625), near, tirx.Select(x < f32(0.0), -far, far))


def sigmoid(x: Expr) -> Expr:
    """``1 / (1 + exp(-x))``."""
    return f32(1.0) / (f32(1.0) + exp(-x))


def silu(x: Expr) -> Expr:
    """``x * sigmoid(x)``."""
    x = held(x)
    return x * sigmoid(x)


def softplus(x: Expr) -> Expr:
    """``log(1 + exp(x))``: ``max(x, 0) + 2 artanh(s)``, ``s = y / (2 + y)``, ``y = exp(-|x|)``."""
    x = held(x)
    y = held(exp(-tirx.abs(x)))
    s = held(y / (y + f32(2.0)))
    return tirx.max(x, f32(0.0)) + (s + s) * polynomial(held(s * s), _ARTANH)


def erf(x: Expr) -> Expr:
    """Error function (libm)."""
    return libm("erff", x)


def libm(name: str, *arguments: Expr) -> Expr:
    """A function of C's library by its name for float32; that for float64 where these are."""
    dtype = arguments[0].ty.dtype
    if dtype == "float64":
        return tirx.call_pure_extern(dtype, name.removesuffix("f"), *arguments)
    return tirx.call_pure_extern("float32", name, *arguments)


def held(value: Expr) -> Expr:
    """The value, computed here and once."""
    place = local(1, value.ty.dtype)
    I.buffer_store(place, value, [0])
    return place[0]


def polynomial(x: Expr, coefficients: tuple[float, ...]) -> Expr:
    """Horner's scheme, highest power first."""
    value: Expr = f32(coefficients[0])
    for c in coefficients[1:]:
        value = value * x + f32(c)
    return value
