"""Activation functions: unary functions of reals."""

from dataclasses import dataclass

import numpy as np

from .. import special
from ..coupling.action import Action
from ..types import Array
from .elementwise import Unary


class Relu(Unary):
    """``max(x, 0)``."""

    commutes = Action.COUPLED | Action.SCALE

    def compute(self, x: Array) -> Array:
        return np.asarray(np.maximum(x, x.dtype.type(0)))


@dataclass(frozen=True)
class LeakyRelu(Unary):
    """``x`` where positive, else ``alpha * x``."""

    commutes = Action.COUPLED | Action.SCALE
    alpha: float = 0.01

    def compute(self, x: Array) -> Array:
        return np.where(np.less(x, 0), np.multiply(x, x.dtype.type(self.alpha)), x)


@dataclass(frozen=True)
class Elu(Unary):
    """``x`` where positive, else ``alpha * (exp(x) - 1)``."""

    alpha: float = 1.0

    def compute(self, x: Array) -> Array:
        return np.where(np.less(x, 0), np.multiply(self.alpha, np.expm1(x)), x)


@dataclass(frozen=True)
class Selu(Unary):
    """``gamma * x`` where positive, else ``gamma * alpha * (exp(x) - 1)``."""

    alpha: float = 1.67326319217681884765625
    gamma: float = 1.05070102214813232421875

    def compute(self, x: Array) -> Array:
        below = np.multiply(self.alpha, np.expm1(np.minimum(x, 0)))
        return np.multiply(self.gamma, np.where(np.less(x, 0), below, x))


@dataclass(frozen=True)
class Celu(Unary):
    """``max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)``."""

    alpha: float = 1.0

    def compute(self, x: Array) -> Array:
        below = np.multiply(self.alpha, np.expm1(np.divide(np.minimum(x, 0), self.alpha)))
        return np.where(np.less(x, 0), below, x)


@dataclass(frozen=True)
class ThresholdedRelu(Unary):
    """``x`` above ``alpha``, else 0."""

    alpha: float = 1.0

    def compute(self, x: Array) -> Array:
        return np.where(np.greater(x, self.alpha), x, 0)


class Sigmoid(Unary):
    """``1 / (1 + exp(-x))``."""

    function = special.expit


@dataclass(frozen=True)
class HardSigmoid(Unary):
    """``clip(alpha * x + beta, 0, 1)``."""

    alpha: float = 0.2
    beta: float = 0.5

    def compute(self, x: Array) -> Array:
        return np.clip(np.add(np.multiply(self.alpha, x), self.beta), 0, 1)


class HardSwish(Unary):
    """``x * clip(x / 6 + 0.5, 0, 1)``."""

    def compute(self, x: Array) -> Array:
        return np.asarray(np.multiply(x, np.clip(np.add(np.divide(x, 6), 0.5), 0, 1)))


class Silu(Unary):
    """``x * sigmoid(x)``: our own op (ONNX writes it as two, ``Swish`` since opset 24)."""

    def compute(self, x: Array) -> Array:
        return np.asarray(np.multiply(x, special.expit(x)))


class Tanh(Unary):
    """Hyperbolic tangent."""

    function = np.tanh


class Softplus(Unary):
    """``log(1 + exp(x))``."""

    def compute(self, x: Array) -> Array:
        return np.asarray(np.logaddexp(x.dtype.type(0), x))


class Softsign(Unary):
    """``x / (1 + |x|)``."""

    def compute(self, x: Array) -> Array:
        return np.divide(x, np.add(1, np.abs(x)))


class Mish(Unary):
    """``x * tanh(softplus(x))``."""

    def compute(self, x: Array) -> Array:
        return np.asarray(np.multiply(x, np.tanh(np.logaddexp(x.dtype.type(0), x))))


@dataclass(frozen=True)
class Gelu(Unary):
    """``x * Phi(x)`` (normal distribution), or its ``tanh`` approximation."""

    approximate: str = "none"

    def compute(self, x: Array) -> Array:
        if self.approximate == "tanh":
            cubic = np.add(x, np.multiply(0.044715, np.power(x, 3)))
            half = np.add(1, np.tanh(np.multiply(np.sqrt(2 / np.pi), cubic)))
        else:
            half = np.add(1, special.erf(np.multiply(x, np.sqrt(0.5))))
        return np.asarray(np.multiply(np.multiply(0.5, x), half))


class Erf(Unary):
    """Error function."""

    function = special.erf
