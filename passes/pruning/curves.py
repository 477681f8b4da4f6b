"""How far the outputs move when channels of one group go: distortion by how many stay.

Source: Xu et al., "Efficient Joint Optimization of Layer-Adaptive Weight Pruning in Deep Neural
Networks", 2023 (output distortion curves of single layers, and that they nearly add up).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.actions import mask
from ...ir.coupling import ChannelGroup, Coupling
from ...ir.types import Array
from ..context import Context
from ..fitting.cursor import Cursor
from ..statistics.moments import Moments
from .compensate import assign, joint
from .distortion import Distortion
from .readers import Reader, first_node

LEVELS = 8
"""Parts of a group for which distortion is measured; between them it is interpolated."""


@dataclass
class Curves:
    """Measures with zeros for what goes, the readers fitted at once by ``moments`` (if any)."""

    coupling: Coupling
    readers: Sequence[Reader]
    moments: Mapping[str, Moments]
    distortion: Distortion
    context: Context

    def of(self, groups: Sequence[ChannelGroup], orders: Sequence[Array]) -> list[Array]:
        """``[channels + 1]`` per group: the distortion when as many channels stay.

        ``orders``: components of each group, the first to go first.  The graph is walked once; only
        what lies behind a group is computed for it.
        """
        graph, found = self.coupling.graph, {}
        progress = self.context.progress
        if progress is not None:
            progress.start("distortion curves", len(orders))
        first = [first_node(graph, g) for g in groups]
        walk = Cursor(graph, self.context, self.distortion.feeds)
        for g in np.argsort(first, kind="stable").tolist():
            walk.advance(first[g])
            found[g] = self._curve(orders[g], walk)
            if progress is not None:
                progress.advance()
        if progress is not None:
            progress.done()
        return [found[g] for g in range(len(orders))]

    def _curve(self, order: Array, walk: Cursor) -> Array:
        size = len(order)
        counts = np.unique(np.round(np.arange(1, LEVELS) / LEVELS * size).astype(int))
        counts = counts[(counts > 0) & (counts < size)]
        errors = []
        for removed in counts:
            gone = np.zeros(self.coupling.count, bool)
            gone[order[:removed]] = True
            masked = mask(self.coupling, gone)
            assign(masked, joint(self.coupling, self.readers, self.moments, gone))
            errors.append(self.distortion.of(masked, walk))
        xs, ys = [0, *counts, size], [0.0, *errors, 2 * max(errors, default=1.0)]
        return np.interp(np.arange(size + 1), xs, np.maximum.accumulate(ys))[::-1]
