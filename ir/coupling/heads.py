"""Sites whose channels take a factor of their own in every block (attention head).

Along a flattened axis of heads and channels, factors of the two sites are a product of one per head
and one per channel.  If every tensor that has the channels has the heads, too, whatever happens to
the channels of one head happens in that head alone, and there may be a factor for each pair: for
the values of an attention, which the output projection reads by head.  Repeated heads (of keys and
values) share theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..graph import Value
from ..types import Array
from .action import Action
from .relations import FLAT
from .sites import Site, Sites


@dataclass(frozen=True)
class Heads:
    """Two sites of ``SCALE`` that together take amounts ``[blocks, channels]``."""

    blocks: Site
    channels: Site

    @property
    def shape(self) -> tuple[int, int]:
        """How many blocks, and channels in each."""
        return len(self.blocks), len(self.channels)

    def power(self, value: Value) -> int:
        """1 or -1 where a value is multiplied or divided, 0 where it has no such channels."""
        return next((p.power for p in self.channels.places if p.value is value), 0)

    def along(self, sites: Sites, value: Value, axis: int) -> Array | None:
        """The pair ``block * channels + channel`` of every element of an axis that has both."""
        found = self._pairs(sites, value, [axis])
        return None if found is None else np.broadcast_to(*found).ravel()

    def multiplied(self, sites: Sites, value: Value, data: Array, factors: Array) -> Array:
        """``data`` of a value times ``factors [blocks, channels]`` to the power of the value."""
        power = self.power(value)
        found = self._pairs(sites, value, range(value.type.rank)) if power else None
        if found is None:
            return data
        pairs, lengths = found
        own = np.asarray(factors, np.float64).ravel()[pairs] ** power
        return np.asarray((data.reshape(lengths) * own).reshape(data.shape))

    def _pairs(
        self, sites: Sites, value: Value, axes: Iterable[int]
    ) -> tuple[Array, tuple[int, ...]] | None:
        """Pairs in a shape that broadcasts to the lengths of all factors of some axes.

        None where one of the sites is not exactly once among them.
        """
        factors = [f for k in axes for f in sites.channels(value, k)]
        pairs = np.zeros((1,) * len(factors), int)
        for site, step in ((self.blocks, len(self.channels)), (self.channels, 1)):
            near = [k for k, f in enumerate(factors) if np.isin(f, site.channels).any()]
            if len(near) != 1 or not np.isin(factors[near[0]], site.channels).all():
                return None
            order = np.argsort(site.channels)
            rank = order[np.searchsorted(site.channels, factors[near[0]], sorter=order)]
            shape = [-1 if k == near[0] else 1 for k in range(len(factors))]
            pairs = pairs + (rank * step).reshape(shape)
        return pairs, tuple(map(len, factors))


def heads(sites: Sites) -> Iterator[Heads]:
    """All such pairs of free sites, those of most channels first; no site is in two of them."""
    assert sites.action is Action.SCALE
    free = [s for s in sites.free() if all(p.axis != FLAT for p in s.places)]
    left = {id(s): s for s in sorted(free, key=len, reverse=True)}
    for channels in list(left.values()):
        found = [Heads(s, channels) for s in left.values() if s is not channels]
        found = [one for one in found if id(channels) in left and _alike(sites, one)]
        if found:
            best = max(found, key=lambda one: len(one.blocks))
            del left[id(channels)], left[id(best.blocks)]
            yield best


def _alike(sites: Sites, found: Heads) -> bool:
    """Whether the blocks are wherever the channels are, with the same power."""
    powers = {(id(p.value), p.power) for p in found.blocks.places}
    values = {id(p.value): p.value for p in found.channels.places}
    return all((id(p.value), p.power) in powers for p in found.channels.places) and all(
        found._pairs(sites, v, range(v.type.rank)) is not None for v in values.values()
    )
