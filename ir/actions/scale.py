"""Scaling channels by factors: what a producer multiplies, its consumers divide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..coupling import Heads, Sites, heads
from ..coupling.relations import FLAT
from ..errors import PassError
from ..graph import Graph, Value
from ..types import Array
from .rewritten import rewritten

LINEAR = frozenset({
    "Add", "Sub", "Mul", "Div", "Neg", "MatMul", "Gemm", "Conv", "ConvTranspose", "Identity",
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "Gather",
    "Expand", "Tile", "ReduceMean", "ReduceSum", "AveragePool", "GlobalAveragePool",
    "LayerNormalization", "RMSNormalization", "BatchNormalization",
})  # fmt: skip
"""Ops that a negative factor passes wherever a positive one does."""


Within = Sequence[tuple[Heads, Array]]
"""Factors ``[blocks, channels]`` of channels in every block by themselves."""


def scale(sites: Sites, factor: Array, within: Within = ()) -> Graph:
    """A copy of the analysed graph with scaled channels; its function is the same.

    ``factor`` (``[count]``, not zero) is what each component of ``Sites(graph, Action.SCALE)`` is
    multiplied by where its site has the power 1; a component that stays has the factor 1.
    ``within``: positive factors for channels of heads, besides.
    ``PassError`` if a factor is not finite, negative where it meets another op than those that are
    ``LINEAR``, a component that must stay moves, channels of heads cannot be scaled head by head,
    or a weight leaves the range of its type.
    """
    _check(sites, within)
    if not np.all(np.isfinite(factor) & (factor != 0)):
        raise PassError("channels are scaled by finite factors other than zero only")
    sites.check(factor != 1)
    if why := why_positive(sites, np.flatnonzero(factor < 0)):
        raise PassError(f"channels are scaled by a negative factor: {why}")
    amounts = sites.spread(np.log2(np.abs(factor)))
    turned = sites.spread((factor < 0).astype(float))
    return rewritten(
        sites.graph, lambda value, data: scaled(sites, value, data, amounts, turned, within)
    )


def scaled(
    sites: Sites,
    value: Value,
    data: Array,
    amounts: Array,
    turned: Array | None = None,
    within: Within = (),
) -> Array:
    """``data`` with the factors that ``amounts`` (``Sites.spread`` of logarithms) give a value.

    ``turned``: the same of ones where a sign changes; ``within`` as in :func:`scale`.
    """
    out = data
    for axis in range(value.type.rank if value.type.is_float else 0):
        powers = sites.along(value, axis, amounts)
        signs = np.zeros(1) if turned is None else sites.along(value, axis, turned) % 2
        if powers.any() or signs.any():
            shape = [-1 if k == axis else 1 for k in range(data.ndim)]
            out = np.multiply(out, (np.exp2(powers) * (1 - 2 * signs)).reshape(shape))
    elements = sites.along(value, FLAT, amounts)
    if elements.any():
        factors = np.exp2(elements).reshape(*data.shape[:2], *(1,) * (data.ndim - 2))
        out = np.multiply(out, factors)
    for one, factors in within:
        out = one.multiplied(sites, value, out, factors)
    if out is data:
        return data
    with np.errstate(over="ignore"):
        out = out.astype(data.dtype)
    if not np.isfinite(out).all() and np.isfinite(data).all():
        raise PassError(f"{value!r} scaled by these factors leaves the range of {data.dtype}")
    return out


def _check(sites: Sites, within: Within) -> None:
    """``PassError`` for factors of heads that are none, or where there are no such heads."""
    allowed = list(heads(sites)) if within else []
    for one, factors in within:
        if one not in allowed:
            raise PassError(
                f"channels of {one.channels.name} cannot be scaled in one block alone: "
                "not all that has them has the blocks"
            )
        if factors.shape != one.shape or not np.all(np.isfinite(factors) & (factors > 0)):
            raise PassError(
                f"channels of {one.channels.name} take {one.shape} positive finite factors"
            )


def why_positive(sites: Sites, channels: Array) -> str:
    """Why factors of components must be positive; empty if all that they meet is ``LINEAR``."""
    for site in sites.groups:
        if not np.isin(channels, site.channels).any():
            continue
        values = dict.fromkeys(p.value for p in site.places if not p.value.is_constant)
        nodes = [n for v in values for n in (v.producer, *v.uses) if n is not None]
        for node in nodes:
            if node.op.name not in LINEAR:
                return f"{node.op.name} {node.name!r} lets positive factors through only"
    return ""
