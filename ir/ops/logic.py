"""Comparisons, logic, bits, and the unary functions that networks seldom use."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Array, TensorType
from .base import Operands, given, operand
from .elementwise import Binary, Unary


class Predicate(Unary):
    """A truth about each element."""

    def infer(self, ins: Operands) -> list[TensorType]:
        return [TensorType("bool", operand(ins, 0).type.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.asarray(self.compute(given(ins)), np.bool_)]


class IsNaN(Predicate):
    """Whether an element is not a number."""

    function = np.isnan


@dataclass(frozen=True)
class IsInf(Predicate):
    """Whether an element is infinite, of the signs asked for."""

    detect_negative: bool = True
    detect_positive: bool = True

    def compute(self, x: Array) -> Array:
        low = np.isneginf(x) if self.detect_negative else np.zeros(x.shape, np.bool_)
        high = np.isposinf(x) if self.detect_positive else np.zeros(x.shape, np.bool_)
        return low | high


class Not(Predicate):
    """Logical negation."""

    function = np.logical_not


class Comparison(Binary):
    """A truth about two elements."""

    def infer(self, ins: Operands) -> list[TensorType]:
        return [TensorType("bool", super().infer(ins)[0].shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.asarray(self.combine(given(ins), given(ins, 1)), np.bool_)]


class Equal(Comparison):
    """``a == b``, also of strings."""

    function = np.equal
    takes_strings = True


class Greater(Comparison):
    """``a > b``."""

    function = np.greater


class Less(Comparison):
    """``a < b``."""

    function = np.less


class GreaterOrEqual(Comparison):
    """``a >= b``."""

    function = np.greater_equal


class LessOrEqual(Comparison):
    """``a <= b``."""

    function = np.less_equal


class And(Comparison):
    """Both."""

    function = np.logical_and


class Or(Comparison):
    """Either or both."""

    function = np.logical_or


class Xor(Comparison):
    """Either, not both."""

    function = np.logical_xor


@dataclass(frozen=True)
class BitShift(Binary):
    """``a << b`` (direction ``LEFT``) or ``a >> b`` (``RIGHT``) of unsigned integers."""

    direction: str = "LEFT"

    def combine(self, a: Array, b: Array) -> Array:
        return np.left_shift(a, b) if self.direction == "LEFT" else np.right_shift(a, b)


class BitwiseAnd(Binary):
    """Bits set in both."""

    function = np.bitwise_and


class BitwiseOr(Binary):
    """Bits set in either."""

    function = np.bitwise_or


class BitwiseXor(Binary):
    """Bits set in one of the two."""

    function = np.bitwise_xor


class BitwiseNot(Unary):
    """All bits turned over."""

    function = np.invert


class Tan(Unary):
    """Tangent."""

    function = np.tan


class Asin(Unary):
    """Arc sine."""

    function = np.arcsin


class Acos(Unary):
    """Arc cosine."""

    function = np.arccos


class Atan(Unary):
    """Arc tangent."""

    function = np.arctan


class Sinh(Unary):
    """Hyperbolic sine."""

    function = np.sinh


class Cosh(Unary):
    """Hyperbolic cosine."""

    function = np.cosh


class Asinh(Unary):
    """Inverse hyperbolic sine."""

    function = np.arcsinh


class Acosh(Unary):
    """Inverse hyperbolic cosine."""

    function = np.arccosh


class Atanh(Unary):
    """Inverse hyperbolic tangent."""

    function = np.arctanh
