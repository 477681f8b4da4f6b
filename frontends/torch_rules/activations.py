"""Import rules for activation functions."""

import math

import numpy as np

from ...ir.graph import Value
from ...ir.ops.activation import (
    Celu,
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Softplus,
)  # fmt: skip
from ...ir.ops.elementwise import Clip, Div, Mul, Neg, PRelu, Where
from ...ir.ops.logic import Greater
from ...ir.ops.shape import Reshape
from ..torch_site import Site


def gelu(site: Site) -> list[Value]:
    """`Gelu`, exact or by ``tanh``."""
    return site.results(Gelu(site.text("approximate")), site.value("self"))


def hard_sigmoid(site: Site) -> list[Value]:
    """`HardSigmoid` of slope 1/6."""
    return site.results(HardSigmoid(1 / 6, 0.5), site.value("self"))


def hard_swish(site: Site) -> list[Value]:
    """`HardSwish`."""
    return site.results(HardSwish(), site.value("self"))


def hard_tanh(site: Site) -> list[Value]:
    """`Clip`."""
    return site.results(Clip(site.number("min_val"), site.number("max_val")), site.value("self"))


def leaky_relu(site: Site) -> list[Value]:
    """`LeakyRelu`."""
    return site.results(LeakyRelu(site.number("negative_slope")), site.value("self"))


def prelu(site: Site) -> list[Value]:
    """`PRelu`, one slope for all channels or one for each."""
    x, slope = site.value("self"), site.value("weight")
    if x.type.rank > 2 and slope.type.rank:
        slope = site.emit(Reshape((-1, *(1,) * (x.type.rank - 2))), slope)
    return site.results(PRelu(), x, slope)


def elu(site: Site) -> list[Value]:
    """`Elu`, scaled before and after where asked (`selu`)."""
    x = site.value("self")
    alpha, scale, inner = (site.number(n) for n in ("alpha", "scale", "input_scale"))
    if inner != 1:
        factor = site.constant(np.asarray(inner, site.dtype))
        above = site.emit(Greater(), x, site.tensor(0, site.dtype))
        x = site.emit(Where(), above, x, site.emit(Mul(), x, factor))
    if scale == 1:
        return site.results(Elu(alpha), x)
    return site.results(
        Mul(), site.emit(Elu(alpha), x), site.constant(np.asarray(scale, site.dtype))
    )


def celu(site: Site) -> list[Value]:
    """`Celu`."""
    return site.results(Celu(site.number("alpha")), site.value("self"))


def softplus(site: Site) -> list[Value]:
    """`Softplus`; with ``beta`` between two scalings; ``x`` itself above the threshold."""
    x, beta, threshold = site.value("self"), site.number("beta"), site.number("threshold")
    if beta == 1 and threshold >= -math.log(np.finfo(site.dtype).eps):
        return site.results(Softplus(), x)  # the threshold is where the difference rounds to zero
    factor = site.constant(np.asarray(beta, site.dtype))
    wide = site.emit(Mul(), x, factor)
    soft = site.emit(Div(), site.emit(Softplus(), wide), factor)
    above = site.emit(Greater(), wide, site.tensor(threshold, site.dtype))
    return site.results(Where(), above, x, soft)


def log_sigmoid(site: Site) -> list[Value | None]:
    """`Softplus` of ``-x``, negated."""
    x = site.emit(Neg(), site.value("self"))
    soft = site.emit(Softplus(), x)
    return [*site.builder.emit(Neg(), [soft], site.outputs[:1], site.origin), None]
