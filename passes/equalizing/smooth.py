"""``smooth``: part of the outliers of activations moves into the weights.

``s = max|x| ** alpha / max|w| ** (1 - alpha)`` per channel, the maximum of the weights over all
layers that read it; ``alpha`` is searched.

Source: Xiao et al., "SmoothQuant", 2023, section 4.
"""

from __future__ import annotations

import numpy as np

from ...ir.types import Array
from .amounts import Amounts
from .searched import best_of
from .site import Site

ALPHAS = np.linspace(0.1, 1.0, 10)
LEAST = 1e-5


def solve(site: Site) -> Amounts:
    """The factors of the ``alpha`` of least measured error."""
    reach = np.maximum(site.reach, LEAST * site.reach.max(initial=0.0))
    columns = site.weights if site.summing else np.ones(len(reach))
    columns = np.maximum(columns, LEAST * columns.max(initial=0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [Amounts.of(_centred(reach**a / columns ** (1 - a))) for a in ALPHAS]
    return best_of(site, found)


def _centred(scale: Array) -> Array:
    known = scale[np.isfinite(scale) & (scale > 0)]
    return np.asarray(scale / np.exp(np.log(known).mean())) if len(known) else scale
