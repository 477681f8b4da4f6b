"""How much each channel of a group matters, by the size of its weights.

Sources: Li et al., "Pruning Filters for Efficient ConvNets", 2017 (l1); Fang et al., "DepGraph",
2023, and Wang et al., "Structurally Prune Anything", 2024 (aggregation over coupled parameters,
normalisation within a group); Lee et al., "Layer-adaptive Sparsity for the Magnitude-based
Pruning", 2021 (lamp).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ...ir.coupling import ChannelGroup, Coupling
from ...ir.types import Array

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
    for place in group.weights:
        if place.value.type.rank < 2:
            continue
        size = MAGNITUDES[criterion](np.asarray(place.value.data, np.float64))
        others = tuple(k for k in range(size.ndim) if k != place.axis)
        along = size.sum(others)
        factors = coupling.channels(place.value, place.axis)
        grid = np.meshgrid(*factors, indexing="ij")[place.factor].ravel()
        total = np.bincount(grid, along, coupling.count)[group.channels]
        count = np.bincount(grid, minlength=coupling.count)[group.channels]
        rows.append(total / np.maximum(count, 1) * len(along) / max(size.size, 1))
    if not rows:
        return np.ones(len(group))
    return AGGREGATES[aggregate](np.array(rows))


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
