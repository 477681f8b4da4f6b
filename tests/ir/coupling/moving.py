"""Whether scaled, shifted or rotated channels leave a network what it was, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from qc.ir import Graph, Node
from qc.ir.actions import rotate, scale, shift
from qc.ir.actions.rotate import rotated
from qc.ir.actions.scale import scaled
from qc.ir.actions.shift import shifted
from qc.ir.coupling import Action, Site, Sites, heads
from qc.ir.coupling.shuffles import shuffles
from qc.ir.evaluate import evaluate, evaluate_node
from qc.ir.verify import verify

Arrays = dict[str, np.ndarray]
ACTIONS = (Action.SCALE, Action.SHIFT, Action.ROTATE)


class Move:
    """Random numbers for some sites: the graph that has them, and what they make of a tensor.

    Where heads can be scaled one by one, each of their channels has a factor of its own, too.
    """

    def __init__(
        self, sites: Sites, some: Iterable[Site], rng: np.random.Generator, octaves: bool = False
    ) -> None:
        self.sites, some = sites, list(some)
        self.amount = np.zeros(sites.count)
        self.turns = []
        for site in some:
            drawn = rng.uniform(-2, 2, len(site))
            self.amount[site.channels] = np.rint(drawn) if octaves else drawn
            self.turns.append((site, np.linalg.qr(rng.standard_normal((len(site),) * 2))[0]))
        pairs = sites.action is Action.SCALE and len(some) > 1
        found = heads(sites) if pairs else ()
        self.within = [
            (
                one,
                np.exp2(
                    rng.integers(-2, 3, one.shape) if octaves else rng.uniform(-2, 2, one.shape)
                ),
            )
            for one in found
            if one.blocks in some and one.channels in some
        ]

    def graph(self) -> Graph:
        """Amounts are logarithms of factors: from 1/4 to 4."""
        if self.sites.action is Action.SCALE:
            return scale(self.sites, np.exp2(self.amount), self.within)
        if self.sites.action is Action.SHIFT:
            return shift(self.sites, self.amount)
        return rotate(self.sites, self.turns)

    @cached_property
    def amounts(self) -> np.ndarray:
        """Those of all ids."""
        return self.sites.spread(self.amount)

    def of(self, name: str, data: np.ndarray) -> np.ndarray:
        """What a value is to become; ``data`` itself where nothing moves."""
        value, amounts = self.sites.graph[name], self.amounts
        if self.sites.action is Action.ROTATE:
            return rotated(self.sites, value, data, self.turns)
        if self.sites.action is Action.SCALE:
            return scaled(self.sites, value, data, amounts, within=self.within)
        return shifted(self.sites, value, data, amounts)


def apart(move: Move, feed: Arrays) -> tuple[float, float]:
    """Greatest difference of any output, and of any tensor from what it is to become.

    Each over the greatest magnitude of the tensor.  The inside of shuffles does not count where
    they are scaled.
    """
    graph, changed = move.sites.graph, move.graph()
    verify(changed)
    hidden = inside(graph) if move.sites.action is Action.SCALE else set()
    results = (v for node in graph.nodes for v in node.outputs)
    names = [v.name for v in results if v.type.is_float and v.name not in hidden]
    before, after = (evaluate(g, feed, names) for g in (graph, changed))
    outputs = [v.name for v in graph.outputs if v.name in before]
    return (
        max((relative(before[n], after[n]) for n in outputs), default=0.0),
        max(relative(move.of(n, before[n].astype(np.float64)), after[n]) for n in names),
    )


def inside(graph: Graph) -> set[str]:
    """Names of the values that only a shuffle sees."""
    return {v.name for shuffle in shuffles(graph) for v in shuffle.inner}


class Known:
    """All values of a graph in float64 for one feed, to try many moves of a few channels each."""

    def __init__(self, graph: Graph, feed: Arrays) -> None:
        results = [v.name for node in graph.nodes for v in node.outputs]
        constants = {v.name: np.asarray(v.data) for v in graph.constants}
        self._graph, self._hidden = graph, inside(graph)
        self._values = {**feed, **constants, **evaluate(graph, feed, results)}
        self._reads = {n.output.name: (n.op, _names(n)) for n in graph.nodes}

    def apart(self, move: Move) -> tuple[float, float]:
        """What ``apart`` says, node by node.

        Every node is given operands that *are* what they are to become, and must make what its
        results are to become: then the whole network does.  One that reads what it read before,
        bit for bit, makes what it made.
        """
        changed, before = move.graph(), self._values
        verify(changed)
        hidden = self._hidden if move.sites.action is Action.SCALE else set()
        after = {v.name: np.asarray(v.data) for v in changed.constants}
        after.update({v.name: before[v.name] for v in changed.inputs})
        worst = 0.0
        for node in changed.nodes:
            reads, names = _names(node), [v.name for v in node.outputs]
            same = self._reads.get(names[0]) == (node.op, reads)
            if same and all(after[n] is before[n] for n in reads):
                made = [before[n] for n in names]
            else:
                made = evaluate_node(node, after)
            for value, array in zip(node.outputs, made, strict=True):
                after[value.name] = array
                if value.type.is_float and value.name in before and value.name not in hidden:
                    wanted = after[value.name] = move.of(value.name, before[value.name])
                    worst = max(worst, 0.0 if array is wanted else relative(wanted, array))
        outputs = [v.name for v in self._graph.outputs]
        return max(relative(before[n], after[n]) for n in outputs), worst


def _names(node: Node) -> list[str]:
    return [v.name for v in node.operands]


def relative(expected: np.ndarray, found: np.ndarray) -> float:
    """Greatest difference over the greatest magnitude; infinities must be where they were."""
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)) or not finite.any():
        return 0.0 if np.array_equal(expected, found) else np.inf
    scale = float(np.abs(expected[finite]).max()) + 1e-30
    return float(np.abs(expected[finite] - found[finite]).max()) / scale
