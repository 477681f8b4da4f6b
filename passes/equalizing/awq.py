"""``awq``: weights of channels that carry much are kept more exactly.

``s = mean|x| ** rho`` per channel, over the root of the greatest times the least; ``rho`` is
searched.

Source: Lin et al., "AWQ: Activation-aware Weight Quantization", 2023, section 3.2.
"""

from __future__ import annotations

import numpy as np

from .amounts import Amounts
from .searched import best_of
from .site import Site

RHOS = np.linspace(0.1, 1.0, 10)


def solve(site: Site) -> Amounts:
    """The factors of the exponent of least measured error."""
    mean = site.magnitude
    spoken = mean > 0
    if not spoken.any():
        return Amounts.none(len(mean))
    found = []
    for rho in RHOS:
        scale = np.where(spoken, mean, 1.0) ** rho
        used = scale[spoken]
        scale = np.where(spoken, scale / np.sqrt(used.max() * used.min()), 0.0)
        found.append(Amounts.of(scale))
    return best_of(site, found)
