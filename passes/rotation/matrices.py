"""Orthogonal matrices for the channels of a site: randomized Hadamard, KLT, or one after the other.

A Hadamard matrix spreads every channel over all of them with equal weight.  The eigenvectors of the
covariance (KLT) make channels uncorrelated, but as unequal as can be; a Hadamard matrix behind them
gives every channel the mean of the eigenvalues as its variance, exactly.

Sources: Ashkboos et al., "QuaRot", 2024, section 3 (randomized Hadamard); Xu et al., "MambaQuant",
2025, section 4.1 (KLT and Hadamard).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.hadamard import hadamard
from ...ir.types import Array

METHODS = ("hadamard", "klt", "klt-hadamard")


@dataclass(frozen=True)
class Turn:
    """An orthogonal matrix: row ``i`` says what channel ``i`` is made of.

    ``even``: all entries of its Hadamard factor are of one size (no Hadamard factor counts as so).
    """

    matrix: Array
    even: bool


def turn(method: str, size: int, covariance: Array | None, rng: np.random.Generator) -> Turn:
    """A matrix for ``size`` channels; ``covariance`` (float64) where the method has a KLT.

    Where there is no Hadamard matrix of that order a random orthogonal one takes its place.
    """
    spread, even = np.eye(size), True
    if method != "klt":
        spread, even = spreading(size, rng)
    if method == "hadamard":
        return Turn(spread, even)
    assert covariance is not None
    return Turn(spread @ principal(covariance).T, even)


def spreading(size: int, rng: np.random.Generator) -> tuple[Array, bool]:
    """A Hadamard matrix with random signs of its columns, orthogonal; else any, and False."""
    signs = rng.choice([-1.0, 1.0], size)
    found = hadamard(size)
    if found is not None:
        return found * signs / np.sqrt(size), True
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return np.asarray(q * np.sign(np.diag(r))), False


def principal(covariance: Array) -> Array:
    """Eigenvectors as columns, the greatest eigenvalue first; their greatest entry is positive."""
    vectors = np.linalg.eigh(covariance)[1][:, ::-1]
    greatest = np.abs(vectors).argmax(0)
    return np.asarray(vectors * np.sign(vectors[greatest, np.arange(len(vectors))]))
