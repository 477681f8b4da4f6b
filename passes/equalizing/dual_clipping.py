"""``dual-clipping``: both ends of every channel's range, clipped for the results of the readers.

As in ``repq`` every channel gets a scale and a zero point of its own, which the reparameterization
turns into those of the tensor.  But what a channel loses is judged by what its readers make of it,
together with what all other channels lose: with errors ``e [channels, samples]`` and columns ``W``
of the readers, ``|W e|**2`` is lowered channel by channel over a grid of factors for the lower and
the upper end, from what ``repq`` finds, those first whose columns weigh most.  Where biases of all
readers take off a mean, it costs nothing.

Source: "RepQuant", 2024, section 4.2 (factors for both ends, by the error of the output).  The
search channel by channel, and that means are free, are ours.
"""

from __future__ import annotations

import numpy as np

from ...ir.types import Array
from .amounts import Amounts
from .repq import PerChannel, clipped, per_channel, spans
from .site import Site

SWEEPS = 2


def solve(site: Site) -> Amounts:
    """The amounts that make codes of the ranges found codes per tensor."""
    low, high = spans(site)
    x, top = site.samples, site.precision.top
    start = per_channel(low, high, x, top, site.shifts)
    centred = all(r.layer.takes_bias for r in site.readers)
    return searched(start, low, high, x, top, site.shifts, columns(site), centred).amounts


def columns(site: Site) -> Array:
    """``W^T W`` of the readers' columns, added up, ``[channels, channels]``."""
    place = np.full(len(site.state.scale), -1)
    place[site.channels] = np.arange(len(site.channels))
    out = np.zeros((len(site.channels), len(site.channels)))
    for reader in site.readers:
        groups, outputs, inputs, taps = reader.weights.shape
        flat = reader.weights.transpose(0, 1, 3, 2).reshape(groups, outputs * taps, inputs)
        for own, at in zip(flat, place[reader.inputs].reshape(groups, inputs), strict=True):
            here = at >= 0
            np.add.at(out, np.ix_(at[here], at[here]), own[:, here].T @ own[:, here])
    return out


def searched(
    start: PerChannel, low: Array, high: Array, x: Array, top: int, shifts: bool, weights: Array,
    centred: bool,
) -> PerChannel:  # fmt: skip
    """Scales and zero points of less energy of the results than those of ``start``.

    ``weights``: :func:`columns`; ``x [channels, samples]``; ``centred``: means cost nothing.
    """
    step = start.step.copy()
    zero = start.zero.copy() if shifts else np.full(len(step), np.rint(top / 2))

    def errors(s: Array, z: Array, channel: Array) -> Array:
        codes = np.clip(np.rint(channel / s[:, None]) + z[:, None], 0, top)
        lost = (codes - z[:, None]) * s[:, None] - channel
        return np.asarray(lost - lost.mean(1, keepdims=True) if centred else lost)

    apart = errors(step, zero, x)
    pull = weights @ apart
    own = np.diagonal(weights)
    order = np.argsort(-own * np.square(apart).sum(1), kind="stable")
    grid = list(clipped(low, high, top, shifts))
    for _ in range(SWEEPS):
        for c in order:
            s = np.array([step[c], *(g[0][c] for g in grid)])
            z = np.array([zero[c], *(g[1][c] for g in grid)])
            trial = errors(s, z, x[c][None])
            others = pull[c] - own[c] * apart[c]
            best = int(np.argmin(own[c] * np.square(trial).sum(1) + 2 * trial @ others))
            pull += weights[:, c, None] * (trial[best] - apart[c])
            step[c], zero[c], apart[c] = s[best], z[best], trial[best]
    return PerChannel(step, zero if shifts else start.zero)
