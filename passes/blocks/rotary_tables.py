"""Tables that heads share, one for each: so that heads can order their channels by themselves.

The cosines and sines of a rotary embedding have a channel for each pair and none for heads.  Where
they are spread over heads, nothing changes but their size, and the pairs of every head can move.
"""

from __future__ import annotations

import numpy as np

from ...ir.actions import blocks_of
from ...ir.coupling import ChannelGroup, Coupling
from ...ir.graph import Graph, Value
from ...ir.types import Array


def spread_tables(graph: Graph) -> None:
    """Spread elementwise constants over the heads whose channels they hold.

    Constants must have one use each (:func:`~qc.ir.untie.untie`).
    """
    coupling = Coupling(graph)
    for group in coupling.permutable():
        if blocks_of(coupling, group) is None:
            for value, data in _spread(coupling, group):
                node = value.uses[0]
                wide = graph.constant(data, value.name)
                graph.set_inputs(node, [wide if v is value else v for v in node.inputs])
    graph.prune()


def _spread(coupling: Coupling, group: ChannelGroup) -> list[tuple[Value, Array]]:
    """Constants and their data with the most heads that all else has; none if that is not all."""
    values = list(dict.fromkeys(p.value for p in group.places))
    for blocks in sorted(coupling.groups, key=len, reverse=True):
        if blocks is group or len(blocks) < 2:
            continue
        lacking = [v for v in values if not _axes(coupling, v, blocks)]
        found = [_over(coupling, v, blocks) for v in lacking]
        if lacking and len(lacking) < len(values) and all(d is not None for d in found):
            return [(v, d) for v, d in zip(lacking, found, strict=True) if d is not None]
    return []


def _over(coupling: Coupling, value: Value, blocks: ChannelGroup) -> Array | None:
    """A constant as large along the axes of blocks as what it is multiplied with, if it can be."""
    if value.data is None or len(value.uses) != 1 or value.uses[0].op.name != "Mul":
        return None
    out = value.uses[0].output
    axes = _axes(coupling, out, blocks)
    own = (*(1 for _ in range(out.type.rank - value.type.rank)), *value.shape)
    if not axes or any(own[k] != 1 for k in axes):
        return None
    shape = [out.shape[k] if k in axes else n for k, n in enumerate(own)]
    return np.ascontiguousarray(np.broadcast_to(value.data.reshape(own), shape))


def _axes(coupling: Coupling, value: Value, group: ChannelGroup) -> list[int]:
    return [
        k
        for k in range(value.type.rank)
        if any(np.isin(f, group.channels).any() for f in coupling.channels(value, k))
    ]
