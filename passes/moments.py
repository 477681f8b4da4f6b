"""Mean and covariance of what a layer sums over, from a few positions of every sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.types import Array
from .grid import grid_step
from .linear import Linear

POSITIONS = 64
"""Positions (windows of a convolution, rows of a matrix) taken from one sample."""

TOGETHER = 256
"""Positions multiplied at once: the product costs less than adding it to the sum so far."""

WIDEST = 2304
"""Layers that sum over more inputs than this get no covariance: it would cost too much memory."""


class Moments:
    """First and second moments of a layer's inputs, per group of channels; an accumulator.

    ``mean`` is float64 ``[groups, K]``, ``second`` and ``covariance`` ``[groups, K, K]`` with
    ``K = inputs per group * taps`` in the order of the weights.  Memory does not depend on the
    number of samples.  Sums are about the first mean, so that inputs which hardly vary keep a
    covariance without negative eigenvalues.
    """

    def __init__(self, layer: Linear) -> None:
        groups, _, inputs, taps = layer.weights().shape
        self.layer = layer
        self._count = 0
        self._held: list[Array] = []
        self._sum = np.zeros((groups, inputs * taps))
        self._products = np.zeros((groups, inputs * taps, inputs * taps))
        self._samples = 0
        self._origin: Array | None = None

    @staticmethod
    def wanted(layer: Linear) -> bool:
        """Whether a covariance can serve: it is small enough, and no grid holds the weights."""
        w = layer.weights()
        return bool(w.shape[2] * w.shape[3] <= WIDEST) and grid_step(w) is None

    def add(self, x: Array) -> None:
        """Observe one sample's input."""
        windows = self._windows(x) if self.layer.is_conv else self._rows(x)
        groups, width = self._sum.shape
        self._held.append(windows.reshape(groups, width, -1))
        self._samples += 1
        if sum(z.shape[2] for z in self._held) >= TOGETHER:
            self._multiply()

    def _multiply(self) -> None:
        if self._held:
            z = np.concatenate(self._held, 2)
            if self._origin is None:
                self._origin = z.mean(2, keepdims=True)
            z = z - self._origin
            self._sum += z.sum(2, dtype=np.float64)
            self._products += z @ z.transpose(0, 2, 1)
            self._count += z.shape[2]
            self._held = []

    @property
    def count(self) -> int:
        """Positions observed."""
        self._multiply()
        return self._count

    @property
    def mean(self) -> Array:
        """float64 ``[groups, K]``."""
        count, origin = max(self.count, 1), self._origin
        start = 0.0 if origin is None else origin[:, :, 0].astype(np.float64)
        return np.asarray(start + self._sum / count)

    @property
    def second(self) -> Array:
        """Second moments about zero."""
        mean = self.mean
        return np.asarray(self.covariance + mean[:, :, None] * mean[:, None, :])

    @property
    def covariance(self) -> Array:
        """Second moments about the mean."""
        count = max(self.count, 1)
        shift = self._sum / count
        return np.asarray(self._products / count - shift[:, :, None] * shift[:, None, :])

    def _rows(self, x: Array) -> Array:
        rows = x.reshape(-1, x.shape[-1])
        return np.ascontiguousarray(rows[self._chosen(len(rows))].T)

    def _windows(self, x: Array) -> Array:
        """Windows of the input under a few positions of the kernel: ``[C, *K, positions]``."""
        op: Any = self.layer.node.op
        n = len(op.strides)
        begin, end = op.pads[:n], op.pads[n:]
        pads = ((0, 0), (0, 0), *zip(begin, end, strict=True))
        padded = np.pad(x, pads) if any(op.pads) else x
        reach = [(k - 1) * d + 1 for k, d in zip(self.layer.kernel, op.dilations, strict=True)]
        space = [
            (size - r) // s + 1
            for size, r, s in zip(padded.shape[2:], reach, op.strides, strict=True)
        ]
        places = np.unravel_index(self._chosen(len(x) * int(np.prod(space))), (len(x), *space))
        index: list[Any] = [slice(None), places[0]]
        for i, k in enumerate(self.layer.kernel):
            taps = np.arange(k).reshape(-1, *(1,) * (n - i)) * op.dilations[i]
            index.append(places[i + 1] * op.strides[i] + taps)
        return np.asarray(padded.swapaxes(0, 1)[tuple(index)])

    def _chosen(self, available: int) -> Array:
        """Evenly spread positions, others in every sample."""
        if available <= POSITIONS:
            return np.arange(available)
        start = (self._samples * 0.6180339887) % 1.0
        return ((np.arange(POSITIONS) + start) * available / POSITIONS).astype(np.int64)
