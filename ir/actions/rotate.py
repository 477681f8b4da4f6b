"""Mixing the channels of a group by an orthogonal matrix, which its other side undoes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..coupling import Site, Sites
from ..errors import PassError
from ..graph import Graph, Value
from ..types import Array
from .rewritten import rewritten

ORTHOGONAL = 1e-6
"""How far the product of a matrix with its transpose may be from the identity."""


def rotate(sites: Sites, turns: Sequence[tuple[Site, Array]]) -> Graph:
    """A copy of the analysed graph with rotated channels; its function is the same.

    Every site of ``Sites(graph, Action.ROTATE)`` in ``turns`` comes with an orthogonal matrix
    ``[channels, channels]``: row ``i`` says what channel ``i`` (of ``site.channels``) is made of.
    ``PassError`` if a site must stay as it is or a matrix is not orthogonal.
    """
    for site, matrix in turns:
        _check(sites, site, matrix)
    return rewritten(sites.graph, lambda value, data: rotated(sites, value, data, turns))


def rotated(sites: Sites, value: Value, data: Array, turns: Sequence[tuple[Site, Array]]) -> Array:
    """``data`` of a value with the channels of ``turns`` mixed on every axis that has them."""
    out = data
    for axis in range(value.type.rank if value.type.is_float else 0):
        factors = sites.channels(value, axis)
        for f, components in enumerate(factors):
            for site, matrix in turns:
                at = _places(site, components, sites.count)
                if len(at):
                    lengths = [len(c) for c in factors]
                    whole = out.reshape(*data.shape[:axis], *lengths, *data.shape[axis + 1 :])
                    out = _mixed(whole, axis + f, at, matrix).reshape(data.shape)
    return out.astype(data.dtype, copy=False)


def _check(sites: Sites, site: Site, matrix: Array) -> None:
    moved = np.zeros(sites.count, bool)
    moved[site.channels] = True
    sites.check(moved)
    if matrix.shape != (len(site), len(site)):
        raise PassError(f"the {len(site)} channels of {site.name} cannot turn by {matrix.shape}")
    if not np.abs(matrix @ matrix.T - np.eye(len(site))).max() <= ORTHOGONAL:
        raise PassError(f"the matrix for the channels of {site.name} is not orthogonal")


def _places(site: Site, components: Array, count: int) -> Array:
    """Where a site's channels lie among those of a factor, in the site's order."""
    rank = np.full(count, -1)
    rank[site.channels] = np.arange(len(site))
    found = np.flatnonzero(rank[components] >= 0)
    return found[np.argsort(rank[components[found]])]


def _mixed(data: Array, axis: int, at: Array, matrix: Array) -> Array:
    moved = np.moveaxis(data.astype(np.float64), axis, 0)
    moved[at] = np.tensordot(matrix, moved[at], 1)
    return np.moveaxis(moved, 0, axis)
