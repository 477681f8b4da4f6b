"""``cross-layer``: a channel's row and its column reach equally far.

``s = sqrt(max|row| / max|column|)`` per channel, for what layers or norms with weights make; chains
of layers are swept until nothing changes.  Needs no data.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019, section 4.1.
"""

from __future__ import annotations

import numpy as np

from .amounts import Amounts
from .site import Site


def solve(site: Site) -> Amounts | None:
    """The factors; None where something without weights makes the channels."""
    if not site.known:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return Amounts.of(np.sqrt(site.rows / site.columns))
