"""Which order of coupled channels the blocks of a number format lose least in.

A block's error grows with its greatest number, so that channels of one size belong together:
sorting by size is the order to try.  What decides is the error itself, on weights and on samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...ir.actions import blocks_of
from ...ir.actions.permute import permuted
from ...ir.actions.permute_within import Blocked, permuted_within
from ...ir.coupling import ChannelGroup, Coupling
from ...ir.formats import parse
from ...ir.graph import Value
from ...ir.types import Array
from .slots import Slot

SMALL = 8
"""Groups of at most so many channels are improved by swapping pairs."""

LEAST = 1 - 1e-6
"""What an order must bring the error to at most: sums in another order differ, too."""

Change = Callable[[Value, Array], Array]


@dataclass
class Sample:
    """A slot with its numbers: the weights, or a few samples of the activations."""

    slot: Slot
    arrays: list[Array]
    error: float = field(init=False)

    def __post_init__(self) -> None:
        self.error = self.measured(self.arrays)

    def measured(self, arrays: Sequence[Array]) -> float:
        """Energy of what the format loses, over that of the numbers."""
        lost = total = 0.0
        f, slot = parse(self.slot.format), self.slot
        for array in arrays:
            rows = (*array.shape[: slot.axis], slot.length) if slot.rows else array.shape
            x = array.reshape(rows)
            lost += float(np.square(f.round(x, slot.axis) - x, dtype=np.float64).sum())
            total += float(np.square(x, dtype=np.float64).sum())
        return lost / total if total else 0.0

    def sizes(self, groups: Sequence[ChannelGroup], coupling: Coupling) -> Array:
        """Root mean square per index of the groups, relative to the whole; ``[*groups]``."""
        axes = len(groups)
        squares = np.zeros([len(g) for g in groups])
        for array in self.arrays:
            view = Blocked(coupling, self.slot.value, array, groups).data
            squares += np.square(view, dtype=np.float64).mean(tuple(range(axes, view.ndim)))
        return np.asarray(np.sqrt(squares / max(float(squares.mean()), 1e-300)))


@dataclass
class Reordering:
    """The orders found for one graph, group by group; ``samples`` follow every move.

    ``before``: the objective at first.  ``moved``: names of groups, in order.
    """

    coupling: Coupling
    samples: list[Sample]
    source: Array = field(init=False)
    before: float = field(init=False)
    moved: dict[str, None] = field(default_factory=dict)
    within: list[tuple[ChannelGroup, ChannelGroup, Array]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = np.arange(self.coupling.count)
        self.before = self.error

    @property
    def error(self) -> float:
        """The objective: the sum of the errors of all slots."""
        return sum(s.error for s in self.samples)

    def sort(self, group: ChannelGroup) -> bool:
        """Bring the channels of a group into the best order tried; whether they moved."""
        touched = self._touched(group)
        stay = np.arange(len(group))
        best, order = sum(s.error for s in touched), stay
        for one in self._orders(group, touched):
            error = self._tried(touched, self._joint(group, one))
            if error < best * LEAST:
                best, order = error, one
        if touched and len(group) <= SMALL:
            order = self._swapped(group, touched, best, order)
        if np.array_equal(order, stay):
            return False
        self._accept(group, self._joint(group, order))
        self.source = self.source[self._source(group, order)]
        return True

    def sort_within(self, group: ChannelGroup) -> bool:
        """The same with an order for each block (head) of its own, where that is allowed."""
        blocks = blocks_of(self.coupling, group)
        if blocks is None:
            return False
        touched = self._touched(group)
        best, order = sum(s.error for s in touched), None
        for sizes in _keys([s.sizes((blocks, group), self.coupling) for s in touched]):
            one = np.argsort(-sizes, 1, kind="stable")
            error = self._tried(touched, self._separate(group, blocks, one))
            if error < best * LEAST:
                best, order = error, one
        if order is None:
            return False
        self._accept(group, self._separate(group, blocks, order))
        self.within.append((group, blocks, order))
        return True

    # -- orders ------------------------------------------------------------------------------

    def _orders(self, group: ChannelGroup, touched: Sequence[Sample]) -> Iterator[Array]:
        whole = [s for s in touched if self._whole(s, group)]
        for sizes in _keys([s.sizes((group,), self.coupling) for s in whole]):
            yield np.argsort(-sizes, kind="stable")

    def _swapped(
        self, group: ChannelGroup, touched: Sequence[Sample], best: float, order: Array
    ) -> Array:
        """An order in which no two channels can change places and lessen the error."""
        pairs = [(i, j) for j in range(len(order)) for i in range(j)]
        better = True
        while better:
            better = False
            for i, j in pairs:
                one = order.copy()
                one[[i, j]] = one[[j, i]]
                error = self._tried(touched, self._joint(group, one))
                if error < best * LEAST:
                    best, order, better = error, one, True
        return order

    def _touched(self, group: ChannelGroup) -> list[Sample]:
        """The samples whose blocks hold several channels of a group."""
        out = []
        for sample in self.samples:
            slot = sample.slot
            last = slot.value.type.rank if slot.rows else slot.axis + 1
            if self._has(slot.value, range(slot.axis, last), group):
                out.append(sample)
        return out

    def _has(self, value: Value, axes: Iterable[int], group: ChannelGroup) -> bool:
        factors = [f for k in axes for f in self.coupling.channels(value, k)]
        return any(np.isin(f, group.channels).any() for f in factors)

    def _whole(self, sample: Sample, group: ChannelGroup) -> bool:
        """Whether a value has all channels of a group once, on one axis of their own."""
        value = sample.slot.value
        factors = [f for k in range(value.type.rank) for f in self.coupling.channels(value, k)]
        near = [f for f in factors if np.isin(f, group.channels).any()]
        return len(near) == 1 and sorted(near[0].tolist()) == sorted(group.channels.tolist())

    # -- moves -------------------------------------------------------------------------------

    def _source(self, group: ChannelGroup, order: Array) -> Array:
        source = np.arange(self.coupling.count)
        source[group.channels] = group.channels[order]
        return source

    def _joint(self, group: ChannelGroup, order: Array) -> Change:
        source = self._source(group, order)
        return lambda value, data: permuted(self.coupling, value, data, source)

    def _separate(self, group: ChannelGroup, blocks: ChannelGroup, order: Array) -> Change:
        return lambda value, data: permuted_within(self.coupling, group, blocks, value, data, order)

    def _tried(self, touched: Sequence[Sample], change: Change) -> float:
        return sum(s.measured([change(s.slot.value, a) for a in s.arrays]) for s in touched)

    def _accept(self, group: ChannelGroup, change: Change) -> None:
        """Move all samples that have a group on any axis: later moves build upon this one."""
        for sample in self.samples:
            value = sample.slot.value
            if self._has(value, range(value.type.rank), group):
                sample.arrays = [change(value, a) for a in sample.arrays]
                sample.error = sample.measured(sample.arrays)


def _keys(sizes: Sequence[Array]) -> Iterator[Array]:
    """Sizes to sort by: their mean on a logarithmic scale, then those of each slot."""
    if len(sizes) > 1:
        yield np.exp(np.mean([np.log(np.maximum(s, 1e-30)) for s in sizes], 0))
    yield from sizes
