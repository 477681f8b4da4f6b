"""The matrix of low rank that stands in best for another one, by what inputs make of it.

Source: Yao et al., "ZeroQuant-V2", 2023, section 5 (LoRC: the singular vectors of the error of
quantized weights).  Singular vectors of ``error @ spread^(1/2)``, which are those that the layer's
results notice, are ours.
"""

from __future__ import annotations

import numpy as np

from ...ir.types import Array

FLOOR = 1e-6
"""Of the mean variance: directions in which inputs vary less count as if they varied so much."""


def low_rank(error: Array, spread: Array, rank: int) -> tuple[Array, Array]:
    """``up [groups, outputs, rank]`` and ``down [groups, rank, K]`` that come near ``error``.

    ``error`` float64 ``[groups, outputs, K]``, ``spread`` the second moments of the inputs
    ``[groups, K, K]``.  No other product of that rank leaves less of ``error``'s results; one of
    full rank leaves nothing.
    """
    root, inverse = _roots(spread)
    left, values, right = np.linalg.svd(error @ root, full_matrices=False)
    return left[..., :rank] * values[:, None, :rank], right[:, :rank] @ inverse


def left_over(error: Array, spread: Array) -> Array:
    """The share of the results' energy that ranks 0, 1, ... leave, float64 ``[most + 1]``."""
    energy = np.square(np.linalg.svd(error @ _roots(spread)[0], compute_uv=False)).sum(0)
    total = float(energy.sum())
    if total <= 0:
        return np.zeros(len(energy) + 1)
    return np.maximum(1 - np.append(0.0, np.cumsum(energy)) / total, 0.0)


def refitted(error: Array, spread: Array, down: Array) -> Array:
    """The ``up`` of least squares for a ``down`` that was changed (rounded, say)."""
    own = down @ spread @ down.transpose(0, 2, 1)
    level = np.einsum("grr->gr", own).mean(1)[:, None, None]
    own = own + np.maximum(FLOOR * level, np.finfo(np.float64).tiny) * np.eye(own.shape[1])
    return np.asarray(np.linalg.solve(own, down @ spread @ error.transpose(0, 2, 1))).transpose(
        0, 2, 1
    )


def _roots(spread: Array) -> tuple[Array, Array]:
    """A square root of ``spread`` and the inverse of that root."""
    values, vectors = np.linalg.eigh(spread)
    level = np.maximum(values.mean(1, keepdims=True), np.finfo(np.float64).tiny * 1e16)
    scale = np.sqrt(np.maximum(values, FLOOR * level))
    return vectors * scale[:, None, :], (vectors / scale[:, None, :]).transpose(0, 2, 1)
