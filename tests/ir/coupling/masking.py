"""Whether deleting channels says what zeroing them in the uncut graph says, on every tensor."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qc.ir import Graph
from qc.ir.actions import delete, mask
from qc.ir.coupling import ChannelGroup, Coupling
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify

Arrays = dict[str, np.ndarray]


def some(
    coupling: Coupling,
    groups: Iterable[ChannelGroup],
    fraction: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Random components of each group, at least one and never all."""
    gone = np.zeros(coupling.count, bool)
    for group in groups:
        count = min(len(group) - 1, max(1, round(fraction * len(group))))
        gone[rng.choice(group.channels, count, replace=False)] = True
    return gone


def difference(
    coupling: Coupling, gone: np.ndarray, feed: Arrays, cut: Graph | None = None
) -> float:
    """Greatest difference of any intermediate value, over that value's greatest magnitude.

    ``cut`` stands in for the graph without the channels (to see that a wrong one is noticed).
    """
    masked = mask(coupling, gone)
    sliced = delete(coupling, gone) if cut is None else cut
    verify(sliced)
    names = [v.name for node in coupling.graph.nodes for v in node.outputs]
    expected, found = evaluate(masked, feed, names), evaluate(sliced, feed, names)
    worst = 0.0
    for name in names:
        whole = expected[name]
        for axis, kept in enumerate(coupling.keeps(coupling.graph[name], gone)):
            whole = np.compress(kept, whole, axis)
        assert whole.shape == found[name].shape, name
        if whole.dtype.kind == "f" and whole.size:
            worst = max(worst, _apart(whole.astype(np.float64), found[name].astype(np.float64)))
    return worst


def _apart(expected: np.ndarray, found: np.ndarray) -> float:
    """Of equal infinities nothing; of anything that is not a number everything."""
    unequal = expected != found
    if not unequal.any():
        return 0.0
    gap = float(np.abs(expected[unequal] - found[unequal]).max())
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)) + 1e-30
    return gap / scale if np.isfinite(gap) else np.inf
