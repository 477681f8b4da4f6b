"""``recalibrate-batchnorm``: statistics of batch norms as the changed network really has them.

After pruning the inputs of a batch normalization have another mean and variance than those that it
was trained with.  Each one takes what the calibration data shows, in the order of the network,
every layer on what the normalized ones before it give.  Use it where ``prune-channels`` does not
compensate (``compensate = "none"``): layers that were fitted to the float network's results have
its statistics, and a fit's results vary less than what they are fitted to, which the norm would
take for a change of scale (measured in docs/pruning.md).

Sources: Li et al., "Eagle Eye: Fast Sub-net Evaluation for Efficient Neural Network Pruning", 2020
(adaptive batch normalization); cumulative averages without momentum.
"""

from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph, Node
from .base import Kind, Pass, Statistics
from .context import Context, Feed
from .fitting.cursor import Cursor
from .statistics.streaming import ChannelStatistics


@dataclass(frozen=True)
class RecalibrateBatchNorm(Pass):
    """Set mean and variance of every batch normalization from ``samples`` of the data."""

    samples: int = 256

    name: ClassVar[str] = "recalibrate-batchnorm"
    kind: ClassVar[Kind] = Kind.LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def draft(self) -> None:
        """Nothing: it leaves shapes alone."""

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Observe and set, norm by norm."""
        norms = [n for n in graph.nodes if _constant(n)]
        if not norms:
            return {"rewrites": 0}
        feeds: list[Feed] = list(islice(context.feeds(self.name), self.samples))
        walk = Cursor(graph, context, feeds)
        for node in norms:
            x = node.operands[0].name
            seen = ChannelStatistics(1)
            for found in walk.values([x]):
                seen.add(np.asarray(found[x], np.float32))
            self._set(graph, node, seen)
            walk.advance(graph.index(node))
        return {"rewrites": len(norms), "samples": len(feeds)}

    def _set(self, graph: Graph, node: Node, seen: ChannelStatistics) -> None:
        """Other statistics as constants of the node's own (others may share the old ones)."""
        fresh = [
            graph.constant(new.astype(old.type.dtype), old.name)
            for old, new in zip(node.operands[3:], (seen.mean, seen.variance), strict=True)
        ]
        graph.set_inputs(node, [*node.operands[:3], *fresh])


def _constant(node: Node) -> bool:
    return node.op.name == "BatchNormalization" and all(v.is_constant for v in node.operands[1:])
