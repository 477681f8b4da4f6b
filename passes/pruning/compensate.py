"""What the layers that stay make of what is left: least squares, at once or in sequence.

*Joint*: every layer that lost inputs is fitted to its own result on the float network's inputs.
*Sequential*: layer after layer is fitted as in ``fit``.

Source of the joint solution: the closed form of optimal brain surgeon (see ``obs``), as Wang et
al., "Structurally Prune Anything", 2024, use it without data labels.  The sequence and its targets
are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...ir.coupling import Coupling
from ...ir.graph import Graph
from ...ir.types import Array
from ..context import Context, Feed
from ..fitting.fit import WIDEST, Fit, Walk
from ..linear import Linear
from ..statistics.moments import Moments
from .obs import damped
from .readers import Reader, layers


def joint(
    coupling: Coupling, readers: Sequence[Reader], moments: Mapping[str, Moments], gone: Array
) -> dict[str, Array]:
    """New data of weights and biases, by name, of the layers that lose inputs.

    Columns that go are zero, so that the data fits the graph before and after the deletion.
    """
    found: dict[str, Array] = {}
    for reader in readers:
        dropped = reader.dropped(gone)
        if dropped.any() and reader.name in moments:
            found.update(_refit(reader.layer, moments[reader.name], dropped))
    return found


def _refit(layer: Linear, moments: Moments, dropped: Array) -> dict[str, Array]:
    weights = layer.weights()
    groups, outputs, inputs, taps = weights.shape
    flat = weights.reshape(groups, outputs, -1)
    spread = moments.covariance if layer.takes_bias else moments.second
    new = np.zeros_like(flat)
    for g in range(groups):
        lost = np.repeat(dropped[g * inputs : (g + 1) * inputs], taps)
        kept = ~lost
        if kept.any():
            h = spread[g]
            own = damped(h[np.ix_(kept, kept)], moments.evidence)
            gain = np.linalg.solve(own, h[np.ix_(kept, lost)])
            new[g][:, kept] = flat[g][:, kept] + flat[g][:, lost] @ gain.T
    shift = np.einsum("gok,gk->go", flat - new, moments.mean).ravel()
    return _data(layer, new.reshape(weights.shape), shift)


def _data(layer: Linear, weights: Array, shift: Array) -> dict[str, Array]:
    """Weights and bias, by their constants' names; ``shift`` is added to the bias."""
    w, *rest = layer.node.operands[1:]
    out = {w.name: layer.shaped(weights).astype(w.type.dtype)}
    for b in rest:
        shape = b.shape
        out[b.name] = (np.asarray(b.data, np.float64) + shift.reshape(shape)).astype(b.type.dtype)
    return out


def assign(graph: Graph, data: Mapping[str, Array]) -> None:
    """Give constants, by name, other data."""
    for name, array in data.items():
        graph.assign(graph[name], array)


def sequential(
    coupling: Coupling, small: Graph, gone: Array, context: Context, feeds: Sequence[Feed]
) -> None:
    """Fit the layers of ``small`` (the analysed graph without ``gone``), in place."""
    real = coupling.graph
    first = _first_changed(coupling, small, gone)
    todo = [r for r in layers(small) if small.index(r.node) >= first and r.width <= WIDEST]
    both = Walk(real, small, context, feeds)
    progress = context.progress
    if progress is not None:
        progress.start("compensate", len(todo))
    for layer in todo:
        fit = Fit.of(small, layer)
        kept = [(i, k) for i, k in enumerate(coupling.keeps(real[fit.target], gone)) if not k.all()]
        for x, y in both.at(fit):
            for axis, some in kept:
                y = np.compress(some, y, axis)
            fit.add(x, y)
        assign(small, _solved(fit))
        both.advance(layer.node)
        if progress is not None:
            progress.advance()
    if progress is not None:
        progress.done()


def _first_changed(coupling: Coupling, small: Graph, gone: Array) -> int:
    """The first node that reads or makes fewer channels than before."""
    for i, node in enumerate(small.nodes):
        names = [v.name for v in (*node.operands, *node.outputs)]
        old = [coupling.graph[n] for n in names if n in coupling.graph]
        if len(old) < len(names) or not all(k.all() for v in old for k in coupling.keeps(v, gone)):
            return i
    return len(small.nodes)


def _solved(fit: Fit) -> dict[str, Array]:
    """The new data of a layer's constants."""
    layer, gram = fit.layer, fit.gram
    weights = layer.weights()
    flat = weights.reshape(*weights.shape[:2], -1)
    new = flat + fit.change(gram, flat)
    y, x = gram.target, gram.mean
    shift = np.zeros(y.size)
    if layer.takes_bias:
        own = layer.bias()
        assert own is not None
        shift = (y - np.einsum("gok,gk->go", new, x)).ravel() - own
    return _data(layer, new.reshape(weights.shape), shift)
