"""Forms of arithmetic, logic and activations."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch.fx import Node as Step
from torch.nn import functional as F

from ...ir import ops
from . import functions
from .emitter import Form, Site, dtype_of

Function = Callable[..., Any]


def unary(function: Function, *fields: str) -> Form:
    """A function of one operand and of attributes of the op."""

    def form(site: Site) -> Step:
        return site.call(function, site[0], *(getattr(site.node.op, f) for f in fields))

    return form


def binary(function: Function) -> Form:
    """A function of two operands; a constant scalar becomes a number."""

    def form(site: Site) -> Step:
        numbers = [site.scalar(i) for i in (0, 1)]
        if all(n is not None for n in numbers):
            return site.call(function, site[0], site[1])
        return site.call(function, *(site[i] if n is None else n for i, n in enumerate(numbers)))

    return form


def tensors(function: Function) -> Form:
    """A function of operands as they are."""

    def form(site: Site) -> Step:
        return site.call(function, *site.given)

    return form


def folded(function: Function) -> Form:
    """A function of two operands, applied to all of them in turn."""

    def form(site: Site) -> Step:
        return reduce(lambda a, b: site.call(function, a, b), site.given)

    return form


def divide(site: Site) -> Step:
    """Integers truncate towards zero."""
    if site.type.is_float:
        return _divide(site)
    return site.call(torch.div, site[0], site[1], rounding_mode="trunc")


_divide = binary(operator.truediv)


def power(site: Site) -> Step:
    """The exponent as a number, else in the type of the base."""
    exponent = site.scalar(1)
    if exponent is not None and site.type.is_float:
        return site.call(torch.pow, site[0], float(exponent))
    return site.call(torch.pow, site[0], site.method("to", site[1], dtype_of(site.type.dtype)))


def modulo(site: Site) -> Step:
    """The sign of the divisor, or of the dividend."""
    op = site.node.op
    assert isinstance(op, ops.Mod)
    return site.call(torch.fmod if op.fmod else torch.remainder, site[0], site[1])


def mean(site: Site) -> Step:
    """The sum over the number of operands."""
    return site.call(operator.truediv, folded(operator.add)(site), len(site.given))


def cast(site: Site) -> Step:
    """Another element type."""
    return site.method("to", site[0], dtype_of(site.type.dtype))


def clip(site: Site) -> Step:
    """Bounds in the type of the operand."""
    op = site.node.op
    assert isinstance(op, ops.Clip)
    if op.min is None and op.max is None:
        return site[0]
    kind = float if site.type.is_float else int
    low, high = (None if b is None else kind(b) for b in (op.min, op.max))
    return site.call(torch.clamp, site[0], low, high)


def identity(site: Site) -> Step:
    """No call at all."""
    return site[0]


def prelu(site: Site) -> Step:
    """``x`` where positive, else ``slope * x``."""
    below = site.call(operator.mul, site[0], site[1])
    return site.call(torch.where, site.call(operator.lt, site[0], 0), below, site[0])


def selu(site: Site) -> Step:
    """The published constants, or others."""
    op = site.node.op
    assert isinstance(op, ops.Selu)
    if op == ops.Selu():
        return site.call(F.selu, site[0])
    return site.call(operator.mul, site.call(F.elu, site[0], op.alpha), op.gamma)


def hard_sigmoid(site: Site) -> Step:
    """Slope 1/6 as torch has it, or another."""
    op = site.node.op
    assert isinstance(op, ops.HardSigmoid)
    if math.isclose(op.alpha, 1 / 6, rel_tol=1e-6) and op.beta == 0.5:
        return site.call(F.hardsigmoid, site[0])
    line = site.call(operator.add, site.call(operator.mul, site[0], op.alpha), op.beta)
    return site.call(torch.clamp, line, 0.0, 1.0)


def thresholded(site: Site) -> Step:
    """``x`` above the threshold, else 0."""
    op = site.node.op
    assert isinstance(op, ops.ThresholdedRelu)
    return site.call(F.threshold, site[0], op.alpha, 0.0)


def gelu(site: Site) -> Step:
    """Exact, or by tanh."""
    op = site.node.op
    assert isinstance(op, ops.Gelu)
    return site.call(F.gelu, site[0], approximate=op.approximate)


def infinite(site: Site) -> Step:
    """Infinity of the signs asked for."""
    op = site.node.op
    assert isinstance(op, ops.IsInf)
    return site.call(functions.infinite, site[0], op.detect_negative, op.detect_positive)


def shift(site: Site) -> Step:
    """Bits to the left or right."""
    op = site.node.op
    assert isinstance(op, ops.BitShift)
    left = op.direction == "LEFT"
    function = torch.bitwise_left_shift if left else torch.bitwise_right_shift
    return site.call(function, site[0], site[1])
