"""A layer that reads channels which can be equalized, and what codes make of its results."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ...ir.types import Array
from ..fitting.windows import Windows
from ..linear import Linear
from ..statistics.streaming import ChannelStatistics
from .precision import Precision

POSITIONS = 4
"""Positions taken from one sample."""

COHERENCE = 4.0
"""What moves a whole channel, as errors of weights do, weighs more than what averages out."""

SAMPLES = 64
"""Samples that positions are taken from."""


class Sampled:
    """A layer's inputs at a few positions of the first samples; an accumulator.

    Even and odd samples are kept apart: solvers search on one half, the other half judges.
    """

    def __init__(self, layer: Linear) -> None:
        self._windows = Windows(layer, POSITIONS)
        self._held: list[Array] = []

    def add(self, x: Array) -> None:
        """Count one sample's input."""
        if len(self._held) < SAMPLES:
            self._held.append(self._windows.inputs(x, self._windows.choose(x)))

    def halves(self) -> tuple[Array, Array]:
        """What was seen, float32 ``[groups, K, P]`` twice; the same if there was one sample."""
        first, second = self._held[::2], self._held[1::2] or self._held
        return np.concatenate(first, 2), np.concatenate(second, 2)


@dataclass
class Reader:
    """One layer; ``inputs`` and ``outputs`` are classes per channel it reads and makes.

    ``seen`` and ``halves`` are None without calibration data.
    """

    layer: Linear
    inputs: Array
    outputs: Array
    seen: ChannelStatistics | None = None
    halves: tuple[Array, Array] | None = None
    weights: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.weights = self.layer.weights()

    @property
    def name(self) -> str:
        """The name of the layer's result."""
        return self.layer.node.output.name

    @property
    def sums(self) -> bool:
        """Whether it sums over several channels: others absorb any factor without a loss."""
        return bool(self.weights.shape[2] > 1)

    @cached_property
    def reach(self) -> Array:
        """Greatest weight over taps, ``[groups, outputs, inputs]``."""
        return np.asarray(np.abs(self.weights).max(3))

    @cached_property
    def energy(self) -> Array:
        """Squared weights per input channel, summed over outputs and taps."""
        return np.asarray(np.square(self.weights).sum((1, 3)).ravel())

    def columns(self, scale: Array) -> Array:
        """Greatest weight per input channel, its outputs divided by ``scale`` per class."""
        rows = scale[self.outputs].reshape(*self.reach.shape[:2], 1)
        return np.asarray((self.reach / rows).max(1).ravel())

    def rows(self, scale: Array) -> Array:
        """Greatest weight per output channel, its inputs multiplied by ``scale`` per class."""
        columns = scale[self.inputs].reshape(self.reach.shape[0], 1, -1)
        return np.asarray((self.reach * columns).max(2).ravel())

    def samples(self) -> Array:
        """Elements of every input channel in the first half of the samples, ``[inputs, n]``."""
        assert self.halves is not None
        return np.asarray(self.halves[0].reshape(len(self.inputs), -1))

    def error(self, precision: Precision, scale: Array, shift: Array, half: int) -> float:
        """Measured error of the results over their variance, for amounts per class.

        What errs alike everywhere counts more, but only where no bias of the layer takes it off.
        """
        assert self.seen is not None
        own, off = scale[self.inputs], shift[self.inputs]
        x, real, spread = self._measured[half]
        groups, _, _, taps = self.weights.shape
        columns = _repeated(own, groups, taps)
        offsets = _repeated(off, groups, taps)
        moved = (x - offsets[:, :, None]) / columns[:, :, None]
        low = float(((self.seen.low - off) / own).min())
        high = float(((self.seen.high - off) / own).max())
        coded = precision.rounded(moved, precision.span(moved, low, high))
        apart = precision.rounded_weights(self._flat * columns[:, None]) @ coded - real
        if off.any():
            apart += self._flat @ offsets[:, :, None]
        offset = apart.mean(2)
        lost = float(apart.var(2).sum())
        if not (self.layer.takes_bias or precision.biases):
            lost += COHERENCE * float(np.square(offset).sum())
        return lost / spread

    @cached_property
    def _flat(self) -> Array:
        """Weights, float32 ``[groups, outputs, K]``."""
        return self.weights.reshape(*self.weights.shape[:2], -1).astype(np.float32)

    @cached_property
    def _measured(self) -> list[tuple[Array, Array, float]]:
        """Per half the inputs, the results that codes should give, and their variance."""
        assert self.halves is not None
        made = [(x, self._flat @ x) for x in self.halves]
        return [(x, y, max(float(y.var(2).sum()), 1e-30)) for x, y in made]


def _repeated(per_input: Array, groups: int, taps: int) -> Array:
    """float32 ``[groups, K]``."""
    return np.repeat(per_input.reshape(groups, -1), taps, 1).astype(np.float32)
