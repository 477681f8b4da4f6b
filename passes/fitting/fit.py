"""Layers of a changed network, fitted one after another to what the float network says there.

A layer's inputs are those that the changed network really gives it, its target is the float
network's result, so that errors do not add up.  Where the result is added to a shortcut, the target
is the float sum less the changed shortcut, so that what the shortcut lost is made up for, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...ir.graph import Graph, Node, Value
from ...ir.types import Array
from ..context import Context, Feed
from ..linear import Linear
from .cursor import Cursor
from .gram import Gram
from .windows import Windows

POSITIONS = 256
"""Positions of one sample that a fit counts."""

WIDEST = 4608
"""Layers that sum over more inputs than this are not fitted: the Gram matrix would not fit."""

DAMPINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Of the mean variance of a layer's inputs; which one is judged on samples that a fit has not
seen."""


@dataclass
class Walk:
    """All samples in the float network and in the changed one, which has its values' names."""

    real: Graph
    changed: Graph
    context: Context
    feeds: Sequence[Feed]

    def __post_init__(self) -> None:
        self._before = Cursor(self.real, self.context, self.feeds)
        self._after = Cursor(self.changed, self.context, self.feeds)

    def at(self, fit: Fit) -> Iterator[tuple[Mapping[str, Array], Array]]:
        """Sample after sample what ``fit.add`` takes."""
        self._after.hold(fit.reads)
        self._before.hold([fit.target])
        found = self._after.values(fit.reads), self._before.values([fit.target])
        for changed, real in zip(*found, strict=True):
            yield changed, real[fit.target]

    def seen(self, graph: Graph, name: str) -> Iterator[Array]:
        """A value of ``graph``, the changed network with something added here, in every sample."""
        for found in self._after.values([name], graph):
            yield found[name]

    def advance(self, node: Node) -> None:
        """Go past a node of the changed network, which will not change any more."""
        self._after.advance(self.changed.index(node) + 1)
        twin = self.real[node.output.name].producer
        assert twin is not None
        self._before.advance(self.real.index(twin) + 1)


@dataclass
class Fit:
    """Least squares of one layer on its inputs, centred if it has a bias.

    ``target``: the value that it is fitted to; ``shortcut``: what is taken off that (or empty).
    ``run``: so many samples after each other go to the same half (texts cut into windows that
    overlap would tell each half what the other knows).
    """

    layer: Linear
    target: str
    shortcut: str
    run: int = 1
    halves: tuple[Gram, Gram] = field(init=False)

    def __post_init__(self) -> None:
        self._windows = windows = Windows(self.layer, POSITIONS)
        shape = (windows.groups, windows.width, self.layer.channels[1] // windows.groups)
        self.halves = Gram(*shape), Gram(*shape)
        self._samples = 0

    @staticmethod
    def of(graph: Graph, layer: Linear) -> Fit:
        """The fit of a layer of ``graph``: to its own result, or to the sum that takes it."""
        y = layer.node.output
        user = graph.sole_use(y)
        if user is not None and user.op.name == "Add" and len(user.operands) == 2:
            other = user.operands[0] if user.operands[1] is y else user.operands[1]
            if _earlier(graph, other, layer.node) and other.type.shape == y.type.shape:
                return Fit(layer, user.output.name, other.name)
        return Fit(layer, y.name, "")

    @property
    def reads(self) -> list[str]:
        """What of the changed network it looks at."""
        source = self.layer.node.operands[0].name
        return [source, *([self.shortcut] if self.shortcut else [])]

    @property
    def evidence(self) -> int:
        """Positions that count as different."""
        return self._windows.evidence

    def add(self, found: Mapping[str, Array], target: Array) -> None:
        """Count one sample: values of the changed network, and the float network's target."""
        if self.shortcut:
            target = target - found[self.shortcut]
        x = found[self.reads[0]]
        at = self._windows.choose(x)
        half = self.halves[self._samples // self.run % 2]
        half.add(self._windows.inputs(x, at), self._windows.outputs(target, at))
        self._samples += 1

    @property
    def gram(self) -> Gram:
        """All samples."""
        return self.halves[0] + self.halves[1]

    def change(self, gram: Gram, flat: Array) -> Array:
        """What to add to the weights ``[groups, outputs, K]`` by ``gram``, that of all samples.

        The damping is the one that serves each half of the samples best with what the other half
        says; it pulls towards the weights there are, and no change is one of the choices.
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


def _earlier(graph: Graph, value: Value, node: Node) -> bool:
    if value.is_constant:
        return False
    return value.producer is None or graph.index(value.producer) < graph.index(node)


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
