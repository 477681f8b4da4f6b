"""What a solver sees: channels that share their makers, and the layers that read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...ir.types import Array
from ..statistics.streaming import ChannelStatistics
from .amounts import Amounts
from .precision import Precision
from .reader import Reader


@dataclass(frozen=True)
class State:
    """The amounts of all classes of a network, ``[count]``; class 0 is nobody's."""

    scale: Array
    shift: Array

    @staticmethod
    def of(count: int) -> State:
        """Nothing changed yet."""
        return State(np.ones(count), np.zeros(count))

    def put(self, channels: Array, amounts: Amounts) -> State:
        """The same with other amounts for some classes."""
        scale, shift = self.scale.copy(), self.shift.copy()
        scale[channels], shift[channels] = amounts.scale, amounts.shift
        return State(scale, shift)

    def of_site(self, channels: Array) -> Amounts:
        """The amounts of some classes."""
        return Amounts(self.scale[channels], self.shift[channels])


@dataclass(frozen=True)
class Site:
    """Channels that can be scaled together, and shifted where ``shifts``.

    ``channels``: their classes.  ``state``: the amounts of all classes so far.  ``makers``:
    greatest weight per class of each layer or norm that makes them, where it has weights;
    ``known`` where all have.  ``tails``: whether a recurrence makes them.
    ``mixed``: whether they may lie in a tensor beside others, which norms alone never make.
    """

    name: str
    channels: Array
    shifts: bool
    readers: tuple[Reader, ...]
    makers: tuple[Callable[[State], Array], ...]
    known: bool
    tails: bool
    mixed: bool
    precision: Precision
    state: State

    @property
    def amounts(self) -> Amounts:
        """What the channels have so far."""
        return self.state.of_site(self.channels)

    @property
    def alone(self) -> bool:
        """Whether the readers read no other channels."""
        return all(np.isin(r.inputs, self.channels).all() for r in self.readers)

    @property
    def summing(self) -> bool:
        """Whether some reader's columns share scales with others."""
        return any(r.sums for r in self.readers)

    def error(self, amounts: Amounts, half: int = 0) -> float:
        """The readers' measured errors with these amounts, added up; ``half`` of the samples."""
        state = self.state.put(self.channels, amounts)
        return sum(r.error(self.precision, state.scale, state.shift, half) for r in self.readers)

    # -- per channel -------------------------------------------------------------------------

    def greatest(self, per_input: Callable[[Reader], Array], summing: bool = False) -> Array:
        """The greatest of what readers (those that sum over channels only) have per input."""
        out = np.full(len(self.state.scale), -np.inf)
        for r in self.readers:
            if r.sums or not summing:
                np.maximum.at(out, r.inputs, per_input(r))
        return np.asarray(np.where(np.isfinite(out), out, 0.0)[self.channels])

    @property
    def high(self) -> Array:
        """The greatest value seen of every channel."""
        return self.greatest(lambda r: _seen(r).high)

    @property
    def low(self) -> Array:
        """The least value seen of every channel."""
        return -self.greatest(lambda r: -_seen(r).low)

    @property
    def reach(self) -> Array:
        """The greatest magnitude seen."""
        return np.asarray(np.maximum(self.high, -self.low))

    @property
    def samples(self) -> Array:
        """Elements of every channel, in the first half of the samples, ``[channels, n]``."""
        found: dict[int, Array] = {}
        for r in self.readers:
            own = r.samples()
            for i, c in enumerate(r.inputs.tolist()):
                found.setdefault(c, own[i])
        rows = [found[c] for c in self.channels.tolist()]
        count = min(map(len, rows))
        return np.stack([row[:count] for row in rows]).astype(np.float64)

    @property
    def magnitude(self) -> Array:
        """The mean magnitude of every channel."""
        return np.asarray(np.abs(self.samples).mean(1))

    @property
    def weights(self) -> Array:
        """The greatest weight of every column as it was; of readers that sum over channels."""
        return self.greatest(lambda r: r.reach.max(1).ravel(), summing=True)

    @property
    def columns(self) -> Array:
        """The same of all readers, their rows divided by what they have so far."""
        return self.greatest(lambda r: r.columns(self.state.scale))

    @property
    def rows(self) -> Array:
        """The greatest weight of every row of what makes the channels."""
        return np.asarray(np.max([make(self.state) for make in self.makers], 0)[self.channels])


def _seen(reader: Reader) -> ChannelStatistics:
    assert reader.seen is not None
    return reader.seen
