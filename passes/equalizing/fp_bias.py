"""``fp-bias``: what an exponent bias per channel would do, by powers of two.

A small float of ``E`` exponent bits with a real bias spans ``2 ** E`` octaves below its greatest
number.  Channels that reach less far than the widest take whole octaves of it, at most
``2 ** E - 1``; factors that are powers of two change no bit of any product.

Source: Liu et al., "LLM-FP4: 4-Bit Floating-Point Quantized Transformers", 2023, section 4.2
(pre-shifted exponent bias).
"""

from __future__ import annotations

import numpy as np

from .amounts import Amounts
from .site import Site

EXPONENT_BITS = 2
"""Of E2M1, the format of MXFP4."""


def solve(site: Site) -> Amounts:
    """Powers of two that bring every channel near the widest one."""
    reach = site.reach
    widest = float(reach.max(initial=0.0))
    if widest <= 0:
        return Amounts.none(len(reach))
    octaves = np.log2(widest / np.maximum(reach, widest * 2.0**-60))
    return Amounts(
        np.exp2(-np.clip(np.rint(octaves), 0, 2**EXPONENT_BITS - 1)), np.zeros(len(reach))
    )
