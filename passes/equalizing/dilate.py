"""``dilate``: columns of weights grow until some row's greatest weight stops them.

``s = min over rows of max|row| / |w|`` per channel, at least 1: no row's range changes, so no step
of the weights does, and activations shrink.  Needs no data.

Source: Liu et al., "DilateQuant", 2024, section 4.1 (weight dilation).
"""

from __future__ import annotations

import numpy as np

from ...ir.types import Array
from .amounts import Amounts
from .reader import Reader
from .site import Site


def solve(site: Site) -> Amounts | None:
    """The factors; None where no reader sums over channels, so that there is no row to fill."""
    if not site.summing:
        return None
    held = site.state.put(site.channels, Amounts.none(len(site.channels))).scale
    filled = site.greatest(lambda r: _filled(r, held), summing=True)
    return Amounts.of(np.where(filled > 0, 1 / np.where(filled > 0, filled, 1.0), 1.0))


def _filled(reader: Reader, scale: Array) -> Array:
    """How much of its row's range the most prominent weight of every input has, at most 1."""
    groups, _, width = reader.reach.shape
    wide = reader.reach * scale[reader.inputs].reshape(groups, 1, width)
    rows = wide.max(2, keepdims=True)
    return np.asarray((wide / np.where(rows > 0, rows, 1.0)).max(1).ravel())
