"""Mean and covariance of what a layer sums over, from a few positions of every sample."""

from __future__ import annotations

from ...ir.types import Array
from ..fitting.gram import Gram
from ..fitting.windows import Windows
from ..linear import Linear
from ..rounding.grid import grid_step

POSITIONS = 64
"""Positions (windows of a convolution, rows of a matrix) taken from one sample."""

WIDEST = 2304
"""Layers that sum over more inputs than this get no covariance: it would cost too much memory."""


class Moments(Gram):
    """First and second moments of a layer's inputs, per group of channels; an accumulator.

    ``mean`` is float64 ``[groups, K]``, ``second`` and ``covariance`` ``[groups, K, K]`` with
    ``K = inputs per group * taps`` in the order of the weights.
    """

    def __init__(self, layer: Linear, positions: int = POSITIONS) -> None:
        self.layer = layer
        self._windows = windows = Windows(layer, positions)
        super().__init__(windows.groups, windows.width)

    @staticmethod
    def wanted(layer: Linear) -> bool:
        """Whether a covariance can serve: it is small enough, and no grid holds the weights."""
        return layer.width <= WIDEST and grid_step(layer.weights()) is None

    @property
    def evidence(self) -> int:
        """Positions that count as different (see ``Windows``)."""
        return self._windows.evidence

    def add(self, x: Array, y: Array | None = None) -> None:
        """Observe one sample's input."""
        super().add(self._windows.inputs(x, self._windows.choose(x)), y)
