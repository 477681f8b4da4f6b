"""``predicted``: the factors of least predicted error, at most the square root of the ranges.

The error of a layer's results, relative to their power: rounding of activations (one step per
tensor, times the squared weights) plus rounding of weights (one step per output channel, times the
variance of the inputs).  ``s = range**a / weight**b`` is searched over ``a`` and ``b``, on top of
what the site has, and where layers read other channels too over a common factor.

Sources: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019, section 4.1 (the rewrite); Xiao et al., "SmoothQuant", 2023, section 4 (the exponent).
"""

from __future__ import annotations

import numpy as np

from ...ir.types import Array
from .amounts import Amounts
from .precision import Precision
from .reader import COHERENCE, Reader
from .site import Site

EXPONENTS = np.linspace(0.0, 0.5, 6)
"""Up to the square root: ranges made fully equal would leave no channel any room for values that
lie beyond the calibrated ones."""

JOINT = 2.0 ** np.arange(-3.0, 3.5, 0.5)

LEAST = 1 / 32
"""No channel is taken to reach less than this share of the widest; calibration may miss much."""

WORTH = 1 - 1e-3
"""Share of the predicted error that other factors must stay below to be taken."""


def solve(site: Site) -> Amounts:
    """The factors found from those that the site has; nothing is shifted."""
    own = site.amounts.scale
    reach = np.maximum(site.reach, 0.0) / own
    weight = site.weights * own if site.summing else np.ones(len(own))
    if not reach.any():
        return Amounts(own, np.zeros(len(own)))
    reach = np.maximum(reach, reach.max() * LEAST)
    weight = np.maximum(weight, weight.max() * LEAST) if weight.any() else np.ones(len(own))
    trial = site.state.scale.copy()

    def cost(factors: Array) -> float:
        trial[site.channels] = own * factors
        return sum(predicted(r, site.precision, trial) for r in site.readers)

    best, least = np.ones(len(own)), cost(np.ones(len(own)))
    for a in EXPONENTS:
        for b in EXPONENTS[::2] if (weight != weight[0]).any() else (0.0,):
            shape = reach**a / weight**b
            shape /= np.exp(np.log(shape).mean())
            for k in (1.0,) if site.alone else JOINT:
                if (now := cost(shape * k)) < least * WORTH:
                    best, least = shape * k, now
    return Amounts(own * best, np.zeros(len(own)))


def predicted(reader: Reader, precision: Precision, scale: Array) -> float:
    """The error of one layer's results over their power, for factors per class."""
    assert reader.seen is not None
    own, seen = scale[reader.inputs], reader.seen
    low, high = np.minimum(seen.low, 0), np.maximum(seen.high, 0)
    step = ((high / own).max() - (low / own).min()) / precision.top
    total = step**2 / 12 * float((reader.energy * np.square(own)).sum())
    if reader.sums:
        groups, _, inputs = reader.reach.shape
        columns = own.reshape(groups, 1, inputs)
        weight_step = (reader.reach * columns).max(2) / precision.weight_top
        spread = (seen.variance.reshape(columns.shape) / columns**2).sum(2)
        taps = reader.weights.shape[3]
        total += float((np.square(weight_step) * spread).sum()) * taps / 12 * COHERENCE
    return float(total / max(float((reader.energy * seen.square).sum()), 1e-30))
