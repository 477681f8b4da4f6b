"""Channels in the order in which optimal brain surgeon would remove them.

Removing the columns P of a layer with weights W and input covariance H, and updating the columns
that stay, costs ``tr(W_P (H^-1_PP)^-1 W_P^T)``; the update is ``-W_P (H^-1_PP)^-1 H^-1_P``.  All
rows share one inverse.  A channel's score is the sum over the layers that read it, each relative
to the power of its result.

Sources: Hassibi and Stork, "Second order derivatives for network pruning: optimal brain surgeon",
1993; Frantar and Alistarh, "Optimal Brain Compression", 2022 (layer-wise, with elimination); Wang
et al., "Structurally Prune Anything", 2024 (groups of coupled channels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...ir.coupling import ChannelGroup
from ...ir.types import Array
from ..statistics.moments import Moments
from .readers import Reader

DAMPING = 0.01
"""Of the mean variance of a layer's inputs, added to every variance."""

TOGETHER = 64
"""The least important 64th of a group goes at once, and what stays is scored anew."""

SCARCE = 1.0
"""How much more is added where there are as few vectors as inputs."""


def eliminate(
    group: ChannelGroup, readers: Sequence[Reader], moments: Mapping[str, Moments]
) -> tuple[Array, Array]:
    """Components of ``group`` in the order of removal, and the error that each removal adds.

    Errors are relative to the power of the layers' results, float64; the last channel stays and
    comes last, with an infinite error.
    """
    parts = [p for r in readers for p in _parts(group, r, moments[r.name])]
    alive = np.arange(len(group))
    order: list[int] = []
    errors: list[Array] = []
    while len(alive) > 1:
        scores = sum((p.scores(alive) for p in parts), np.zeros(len(alive)))
        count = min(max(1, len(alive) // TOGETHER), len(alive) - 1)
        least = np.argsort(scores, kind="stable")[:count]
        lost = sum(part.remove(alive[least]) for part in parts)
        own = np.maximum(scores[least], 1e-30)
        order.extend(alive[least].tolist())
        errors.append(own * (lost / own.sum()))
        alive = np.delete(alive, least)
    return group.channels[[*order, int(alive[0])]], np.concatenate([*errors, [np.inf]])


class _Part:
    """One layer's (or convolution group's) weights and inverse while columns go."""

    def __init__(self, weights: Array, inverse: Array, columns: list[Array], power: float) -> None:
        self.weights, self.inverse = weights, inverse  # [O, K], [K, K]
        self.columns, self.power = columns, power

    def scores(self, alive: Array) -> Array:
        """Error of removing each channel that is ``alive``."""
        own = [self.columns[c] for c in alive]
        sizes = {len(p) for p in own}
        if len(sizes) == 1 and 0 not in sizes:
            return self._together(np.stack(own))
        return np.array([self._together(p[None])[0] if len(p) else 0.0 for p in own])

    def _together(self, columns: Array) -> Array:
        """For columns int64 ``[channels, per channel]``."""
        if columns.shape[1] == 1:
            flat = columns[:, 0]
            squares = np.einsum("ok,ok->k", self.weights[:, flat], self.weights[:, flat])
            return np.asarray(squares / self.inverse[flat, flat] / self.power)
        blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
        own = self.weights[:, columns].transpose(1, 2, 0)
        return np.asarray((own * np.linalg.solve(blocks, own)).sum((1, 2)) / self.power)

    def remove(self, channels: Array) -> float:
        """Take channels out together and update what stays; the error that this makes."""
        p = np.concatenate([self.columns[c] for c in channels])
        if not len(p):
            return 0.0
        own = self.weights[:, p]
        gain = np.linalg.solve(self.inverse[np.ix_(p, p)], self.inverse[p])
        error = float((own.T * np.linalg.solve(self.inverse[np.ix_(p, p)], own.T)).sum())
        self.weights -= own @ gain
        self.inverse -= self.inverse[:, p] @ gain
        self.weights[:, p] = 0
        return error / self.power


def _parts(group: ChannelGroup, reader: Reader, moments: Moments) -> list[_Part]:
    weights = reader.layer.weights()
    groups, _, inputs, taps = weights.shape
    spread = moments.covariance if reader.layer.takes_bias else moments.second
    flat = weights.reshape(groups, weights.shape[1], -1)
    power = max(float(np.einsum("gok,gkl,gol->", flat, spread, flat, optimize=True)), 1e-30)
    channels = [reader.inputs(int(c)) for c in group.channels]
    found = []
    for g in range(groups):
        columns = []
        for own in channels:
            local = own[own // inputs == g] % inputs
            columns.append((local[:, None] * taps + np.arange(taps)).ravel())
        if any(len(c) for c in columns):
            inverse = np.linalg.inv(damped(spread[g], moments.evidence))
            found.append(_Part(flat[g].copy(), inverse, columns, power))
    return found


def damped(spread: Array, count: int) -> Array:
    """A covariance ``[K, K]`` of ``count`` vectors that can be inverted, whatever it was made of.

    Few vectors say little about many inputs: the fewer, the more is added.
    """
    level = DAMPING * (1 + SCARCE * len(spread) / max(count, 1)) * float(np.trace(spread))
    return np.asarray(spread + np.eye(len(spread)) * max(level / len(spread), 1e-12))
