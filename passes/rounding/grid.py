"""Weights that lie on a grid: those of networks trained with quantization and dequantized since."""

import numpy as np

from ...ir.types import Array

GRID_TOLERANCE = 1e-3
"""How far from a point of its grid a dequantized weight may lie, in steps (float32 rounding)."""


def grid_step(weights: Array) -> float | None:
    """The step of the uniform grid through zero, of at most 511 points, that all weights lie on."""
    points = np.unique(np.abs(weights))
    if not 2 <= len(points) <= 256:
        return None
    step = float(np.diff(points).min())
    step = float(points[-1]) / max(round(points[-1] / step), 1)
    multiples = points / step
    on_it = multiples[-1] <= 255.5 and np.abs(multiples - np.rint(multiples)).max() < GRID_TOLERANCE
    return step if on_it else None
