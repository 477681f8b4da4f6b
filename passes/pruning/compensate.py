"""What the layers that stay make of what is left: least squares, at once or in sequence.

*Joint*: every layer that lost inputs is fitted to its own result on the float network's inputs.
*Sequential*: layer after layer is fitted to the float network's result on the inputs that the
pruned network really gives it, so that errors do not add up; where the result is added to a
shortcut, the target is the float sum less the pruned shortcut, so that what the shortcut lost is
made up for, too.

Source of the joint solution: the closed form of optimal brain surgeon (see ``obs``), as Wang et
al., "Structurally Prune Anything", 2024, use it without data labels.  The sequence and its targets
are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ...ir.coupling import Coupling
from ...ir.graph import Graph, Node, Value
from ...ir.types import Array
from ..context import Context, Feed
from ..gram import Gram
from ..linear import Linear
from ..moments import Moments
from ..windows import Windows
from .cursor import Cursor
from .obs import damped
from .readers import Reader, layers

POSITIONS = 256
"""Positions of one sample that a fit counts."""

WIDEST = 4608
"""Layers that sum over more inputs than this are not fitted: the Gram matrix would not fit."""

DAMPINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Of the mean variance of a layer's inputs; which one is judged on samples that a fit has not
seen."""


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
    before, after = Cursor(real, context, feeds), Cursor(small, context, feeds)
    places = {id(node): i for i, node in enumerate(small.nodes)}
    first = _first_changed(coupling, small, gone)
    todo = [r for r in layers(small) if places[id(r.node)] >= first and r.width <= WIDEST]
    progress = context.progress
    if progress is not None:
        progress.start("compensate", len(todo))
    for layer in todo:
        node = layer.node
        target, shortcut = _target(small, node, places)
        fit = _Fit(layer, real, coupling.keeps(real[target], gone), target, shortcut)
        after.hold(fit.reads)
        before.hold([target])
        for x, y in zip(after.values(fit.reads), before.values([target]), strict=True):
            fit.add(x, y[target])
        assign(small, fit.solve())
        after.advance(places[id(node)] + 1)
        before.advance(_index(real, node.output.name) + 1)
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


def _index(graph: Graph, name: str) -> int:
    producer = graph[name].producer
    assert producer is not None
    return graph.index(producer)


def _target(small: Graph, node: Node, places: Mapping[int, int]) -> tuple[str, str]:
    """What a layer's result is fitted to, by name, and the shortcut to take off it (or empty)."""
    y = node.output
    user = small.sole_use(y)
    if user is not None and user.op.name == "Add" and len(user.operands) == 2:
        other = user.operands[0] if user.operands[1] is y else user.operands[1]
        if _earlier(other, places, places[id(node)]) and other.type.shape == y.type.shape:
            return user.output.name, other.name
    return y.name, ""


def _earlier(value: Value, places: Mapping[int, int], index: int) -> bool:
    if value.is_constant:
        return False
    return value.producer is None or places[id(value.producer)] < index


class _Fit:
    """Least squares of one layer on its inputs in the pruned network, centred if it has a bias."""

    def __init__(
        self, layer: Linear, real: Graph, kept: Sequence[Array], target: str, shortcut: str
    ) -> None:
        self.layer, self.shortcut = layer, shortcut
        self.source = layer.node.operands[0].name
        self.kept = [(axis, k) for axis, k in enumerate(kept) if not k.all()]
        self.windows = windows = Windows(layer, POSITIONS)
        shape = (windows.groups, windows.width, layer.channels[1] // windows.groups)
        self.halves = Gram(*shape), Gram(*shape)
        self._samples = 0

    @property
    def reads(self) -> list[str]:
        """What of the pruned network it looks at."""
        return [self.source, *([self.shortcut] if self.shortcut else [])]

    def add(self, found: Mapping[str, Array], target: Array) -> None:
        """Count one sample: values of the pruned network, and the float network's target."""
        for axis, kept in self.kept:
            target = np.compress(kept, target, axis)
        if self.shortcut:
            target = target - found[self.shortcut]
        x = found[self.source]
        at = self.windows.choose(x)
        half = self.halves[self._samples % 2]
        half.add(self.windows.inputs(x, at), self.windows.outputs(target, at))
        self._samples += 1

    def solve(self) -> dict[str, Array]:
        """The new data of the layer's constants.  Damping pulls towards the weights it has."""
        layer, gram = self.layer, self.halves[0] + self.halves[1]
        weights = layer.weights()
        flat = weights.reshape(*weights.shape[:2], -1)
        new = flat + self._change(gram, flat)
        y, x = gram.target, gram.mean
        shift = np.zeros(y.size)
        if layer.takes_bias:
            own = layer.bias()
            assert own is not None
            shift = (y - np.einsum("gok,gk->go", new, x)).ravel() - own
        return _data(layer, new.reshape(weights.shape), shift)

    def _change(self, gram: Gram, flat: Array) -> Array:
        """What to add to the weights, with the damping that serves one half of the samples best.

        Damping pulls towards the weights there are; no change at all is one of the choices.
        """
        centred = self.layer.takes_bias
        gained = np.zeros(len(DAMPINGS))
        for here, there in (self.halves, self.halves[::-1]):
            xx, missing = _residual(there, flat, centred)
            for i, change in enumerate(_changes(here, flat, centred, DAMPINGS)):
                power = np.einsum("gok,gok->", change @ xx, change)
                gained[i] += 2 * float((change * missing).sum()) - float(power)
        best = int(np.argmax(gained))
        if gained[best] <= 0:
            return np.zeros_like(flat)
        return next(_changes(gram, flat, centred, DAMPINGS[best : best + 1]))


def _residual(gram: Gram, flat: Array, centred: bool) -> tuple[Array, Array]:
    """Moments of the inputs, and of the inputs with what ``flat [groups, O, K]`` leaves to do."""
    xx = gram.covariance if centred else gram.second
    yx = gram.cross_covariance if centred else gram.cross
    return xx, yx - flat @ xx


def _changes(gram: Gram, flat: Array, centred: bool, dampings: Sequence[float]) -> Iterator[Array]:
    """The solutions ``[groups, O, K]`` of the damped equations, one for each damping."""
    xx, missing = _residual(gram, flat, centred)
    diagonal = np.einsum("gkk->gk", xx)
    level = np.maximum(diagonal.mean(1), 1e-12)[:, None]
    undamped, wanted = diagonal.copy(), missing.transpose(0, 2, 1)
    for damping in dampings:
        diagonal[:] = undamped + damping * level
        yield np.linalg.solve(xx, wanted).transpose(0, 2, 1)
