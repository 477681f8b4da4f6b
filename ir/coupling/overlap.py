"""Which sites of an action lie within which groups of coupled channels."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from ..types import Array
from .coupling import Coupling
from .sites import Site, Sites


def sites_of(coupling: Coupling, sites: Sites) -> list[list[Site]]:
    """For each of ``coupling.groups`` the sites that share channels with it, in their order.

    Both must be analyses of one graph; sites divide axes into factors of their own.
    """
    group_of = _numbers(coupling.count, [g.channels for g in coupling.groups])
    site_of = _numbers(sites.count, [s.channels for s in sites.groups])
    found: set[tuple[int, int]] = set()
    for value in coupling.graph.values:
        for axis in range(value.type.rank if value.type.is_float else 0):
            fine = list(_spans(sites.channels(value, axis), site_of))
            for low, high, groups in _spans(coupling.channels(value, axis), group_of):
                for least, most, own in fine:
                    if low < most and least < high:
                        pairs = np.unique(np.stack([groups, own]), axis=1).T
                        found.update((int(g), int(s)) for g, s in pairs if s >= 0)
    out: list[list[Site]] = [[] for _ in coupling.groups]
    for group, site in sorted(found):
        out[group].append(sites.groups[site])
    return out


def _numbers(count: int, members: list[Array]) -> Array:
    """The number of the list that each component is in; -1 of those in none."""
    out = np.full(count, -1)
    for number, components in enumerate(members):
        out[components] = number
    return out


def _spans(factors: list[Array], number: Array) -> Iterator[tuple[int, int, Array]]:
    """Per factor of an axis its stride, that of the next one, and the number of each element."""
    high = prod(map(len, factors))
    elements = np.arange(high)
    for components in factors:
        low = high // len(components)
        yield low, high, number[components[elements // low % len(components)]]
        high = low
