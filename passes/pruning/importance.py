"""How much each channel of a group matters, by its weights and by what it varies.

Sources: Li et al., "Pruning Filters for Efficient ConvNets", 2017 (l1); Fang et al., "DepGraph",
2023, and Wang et al., "Structurally Prune Anything", 2024 (aggregation over coupled parameters,
normalisation within a group); Lee et al., "Layer-adaptive Sparsity for the Magnitude-based
Pruning", 2021 (lamp); An et al., "Fluctuation-based Adaptive Structured Pruning for Large Language
Models" (FLAP), 2024, equation 5 (fluctuations).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...ir.coupling import ChannelGroup, Coupling, Place
from ...ir.types import Array
from ..statistics.moments import Moments
from .readers import Reader

MAGNITUDES: Mapping[str, Callable[[Array], Array]] = {"l1": np.abs, "l2": np.square}

AGGREGATES: Mapping[str, Callable[[Array], Array]] = {
    "mean": lambda rows: np.asarray(rows.mean(0)),
    "sum": lambda rows: np.asarray(rows.sum(0)),
    "max": lambda rows: np.asarray(rows.max(0)),
    "prod": lambda rows: np.asarray(np.exp(np.log(np.maximum(rows, 1e-30)).mean(0))),
}
"""Over the tensors of a group; a product counts by its geometric mean, which cannot overflow."""


def magnitudes(coupling: Coupling, group: ChannelGroup, criterion: str, aggregate: str) -> Array:
    """float64 ``[channels]``: the mean magnitude of each channel's weights, over matrices only."""
    rows = []
    for place in matrices(group):
        size = MAGNITUDES[criterion](np.asarray(place.value.data, np.float64))
        count = along(coupling, group, place, np.ones(size.shape))
        rows.append(along(coupling, group, place, size) / np.maximum(count, 1))
    if not rows:
        return np.ones(len(group))
    return AGGREGATES[aggregate](np.array(rows))


def fluctuations(
    group: ChannelGroup, readers: Sequence[Reader], moments: Mapping[str, Moments]
) -> Array:
    """float64 ``[channels]``: what is lost of the readers' results when a channel becomes its mean.

    Each relative to the power of the result.  Inputs count as if they did not vary together.
    """
    total = np.zeros(len(group))
    for reader in readers:
        weights = reader.layer.weights()
        spread = np.einsum("gkk->gk", moments[reader.name].covariance)
        flat = weights.reshape(*weights.shape[:2], -1)
        lost = (np.square(flat).sum(1) * spread).reshape(-1, weights.shape[3]).sum(1)
        scale = max(float(lost.sum()), 1e-30)
        total += [lost[reader.inputs(int(c))].sum() / scale for c in group.channels]
    return total


def matrices(group: ChannelGroup) -> list[Place]:
    """The weights of a group that count: not biases and other vectors."""
    return [place for place in group.weights if place.value.type.rank >= 2]


def along(coupling: Coupling, group: ChannelGroup, place: Place, array: Array) -> Array:
    """Sums of an array like the place's value over all but the group's channels, ``[channels]``."""
    own = array.sum(tuple(k for k in range(array.ndim) if k != place.axis))
    factors = coupling.channels(place.value, place.axis)
    grid = np.meshgrid(*factors, indexing="ij")[place.factor].ravel()
    return np.asarray(np.bincount(grid, own, coupling.count)[group.channels])


def normalize(scores: Array, how: str) -> Array:
    """Scores that can be compared between groups; ``scores`` float64 ``[channels]``."""
    match how:
        case "none":
            return scores
        case "mean" | "sum" | "max":
            return np.asarray(scores / max(float(getattr(np, how)(scores)), 1e-30))
        case "gauss":
            return np.asarray((scores - scores.mean()) / max(float(scores.std()), 1e-30))
        case "lamp":
            order = np.argsort(scores)
            tails = np.cumsum(scores[order][::-1])[::-1]
            out = np.empty_like(scores)
            out[order] = scores[order] / np.maximum(tails, 1e-30)
            return out
    raise ValueError(f"unknown normalisation {how!r}; one of none, mean, sum, max, gauss, lamp")
