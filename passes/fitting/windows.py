"""What a layer sums over, and what it makes of it, at a few positions of a sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ir.types import Array
from ..linear import Linear

ALIKE = 8
"""Positions of one sample that count as different."""


class Windows:
    """Positions of one layer after another sample: windows of a convolution, rows of a matrix.

    At most ``positions`` per sample, evenly spread, others in every sample.
    """

    def __init__(self, layer: Linear, positions: int) -> None:
        self.layer, self.positions = layer, positions
        self.groups, self.width = layer.groups, layer.width
        self._samples = 0
        self._evidence = 0

    @property
    def evidence(self) -> int:
        """Positions seen, but at most a few of each sample: those of one sample are alike."""
        return self._evidence

    def choose(self, x: Array) -> Array:
        """Positions of the next sample, int64 ``[P]``, counted over batch and space."""
        available = len(x) * int(np.prod(self._space(x))) if self.layer.is_conv else x[..., 0].size
        count, start = self.positions, (self._samples * 0.6180339887) % 1.0
        self._samples += 1
        self._evidence += min(available, ALIKE)
        if available <= count:
            return np.arange(available)
        return ((np.arange(count) + start) * available / count).astype(np.int64)

    def inputs(self, x: Array, at: Array) -> Array:
        """What the layer sums over at the positions ``at``: ``[groups, K, P]``."""
        if not self.layer.is_conv:
            return np.ascontiguousarray(x.reshape(-1, x.shape[-1])[at].T)[None]
        op: Any = self.layer.node.op
        n = len(op.strides)
        pads = ((0, 0), (0, 0), *zip(op.pads[:n], op.pads[n:], strict=True))
        padded = np.pad(x, pads) if any(op.pads) else x
        places = np.unravel_index(at, (len(x), *self._space(x)))
        index: list[Any] = [slice(None), places[0]]
        for i, k in enumerate(self.layer.kernel):
            taps = np.arange(k).reshape(-1, *(1,) * (n - i)) * op.dilations[i]
            index.append(places[i + 1] * op.strides[i] + taps)
        windows = np.asarray(padded.swapaxes(0, 1)[tuple(index)])
        return windows.reshape(self.groups, self.width, -1)

    def outputs(self, y: Array, at: Array) -> Array:
        """The layer's results (or what stands in for them) there: ``[groups, outputs, P]``."""
        if not self.layer.is_conv:
            return np.ascontiguousarray(y.reshape(-1, y.shape[-1])[at].T)[None]
        flat = y.swapaxes(0, 1).reshape(self.groups, y.shape[1] // self.groups, -1)
        return np.ascontiguousarray(flat[:, :, at])

    def _space(self, x: Array) -> list[int]:
        """Positions of the kernel along each spatial axis."""
        op: Any = self.layer.node.op
        n = len(op.strides)
        reach = [(k - 1) * d + 1 for k, d in zip(self.layer.kernel, op.dilations, strict=True)]
        return [
            (x.shape[i + 2] + op.pads[i] + op.pads[i + n] - reach[i]) // op.strides[i] + 1
            for i in range(n)
        ]
