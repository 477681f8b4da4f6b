"""``outlier-suppression``: channels move to the middle, then only those that reach far are scaled.

``z = (max + min) / 2`` and ``s = max(1, max|x - z| / t)`` per channel; the threshold ``t`` is
searched from the reach of the widest channel down.  Where nothing can be shifted ``z`` is zero.

Source: Wei et al., "Outlier Suppression+", 2023, sections 4.1 and 4.2.
"""

from __future__ import annotations

import numpy as np

from .amounts import Amounts
from .searched import best_of
from .site import Site

THRESHOLDS = np.geomspace(1.0, 1 / 128, 15)


def solve(site: Site) -> Amounts:
    """The shift, and the factors of the threshold of least measured error."""
    middle = (site.high + site.low) / 2 if site.shifts else np.zeros(len(site.channels))
    reach = np.maximum(site.high - middle, middle - site.low)
    widest = float(reach.max(initial=0.0))
    if widest <= 0:
        return Amounts(np.ones(len(reach)), middle)
    return best_of(
        site, [Amounts.of(np.maximum(1.0, reach / (t * widest)), middle) for t in THRESHOLDS]
    )
