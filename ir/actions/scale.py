"""Scaling channels by positive factors: what a producer multiplies, its consumers divide."""

from __future__ import annotations

import numpy as np

from ..coupling import Sites
from ..coupling.relations import FLAT
from ..errors import PassError
from ..graph import Graph, Value
from ..types import Array
from .rewritten import rewritten


def scale(sites: Sites, factor: Array) -> Graph:
    """A copy of the analysed graph with scaled channels; its function is the same.

    ``factor`` (``[count]``, positive) is what each component of ``Sites(graph, Action.SCALE)`` is
    multiplied by where its site has the power 1; a component that stays has the factor 1.
    ``PassError`` if a factor is not positive, a component that must stay moves, or a weight leaves
    the range of its type.
    """
    if not np.all(np.isfinite(factor) & (factor > 0)):
        raise PassError("channels are scaled by positive, finite factors only")
    sites.check(factor != 1)
    amounts = sites.spread(np.log2(factor))
    return rewritten(sites.graph, lambda value, data: scaled(sites, value, data, amounts))


def scaled(sites: Sites, value: Value, data: Array, amounts: Array) -> Array:
    """``data`` with the factors that ``amounts`` (``Sites.spread`` of logarithms) give a value."""
    out = data
    for axis in range(value.type.rank if value.type.is_float else 0):
        powers = sites.along(value, axis, amounts)
        if powers.any():
            shape = [-1 if k == axis else 1 for k in range(data.ndim)]
            out = np.multiply(out, np.exp2(powers).reshape(shape))
    elements = sites.along(value, FLAT, amounts)
    if elements.any():
        factors = np.exp2(elements).reshape(*data.shape[:2], *(1,) * (data.ndim - 2))
        out = np.multiply(out, factors)
    if out is data:
        return data
    with np.errstate(over="ignore"):
        out = out.astype(data.dtype)
    if not np.isfinite(out).all() and np.isfinite(data).all():
        raise PassError(f"{value!r} scaled by these factors leaves the range of {data.dtype}")
    return out
