"""Functions of scipy, which is loaded when the first of them is computed: reading needs none."""

from __future__ import annotations

import numpy as np

from .types import Array


def expit(x: Array) -> Array:
    """``1 / (1 + exp(-x))``."""
    from scipy import special

    return np.asarray(special.expit(x))


def erf(x: Array) -> Array:
    """The error function."""
    from scipy import special

    return np.asarray(special.erf(x))


def logsumexp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """Logarithm of the sum of exponentials along ``axes``."""
    from scipy import special

    return np.asarray(special.logsumexp(x, axes, keepdims=keepdims))
