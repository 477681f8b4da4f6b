"""Regions stay float within a budget of time: those that trying everything says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph
from qc.ir.errors import PreconditionError
from qc.passes import Context, PassManager
from qc.passes.allocate_bits import AllocateBits
from qc.passes.base import Pass
from qc.passes.bits.latency import within_latency
from qc.passes.bits.sites import WEIGHTS, Site, sites_of
from qc.passes.plan import plan
from qc.passes.recipe import load_recipe
from qc.passes.region_times import regions_of


@dataclass
class Scripted:
    """Seconds by op: of integer products one, of float ones three and what ``more`` says."""

    more: Mapping[str, float] = field(default_factory=dict)
    measured: bool = True
    stored: dict[str, dict[str, str]] = field(default_factory=dict)
    beside: float = 1.0
    lanes: int = 16

    def seconds(self, graph: Graph) -> dict[str, float] | None:
        times = {"QConv": 1.0, "Conv": 3.0, "Mul": 0.25}
        return {
            n.name: times.get(n.op.name, 0.0) + (n.op.name == "Conv") * self.more.get(n.name, 0.0)
            for n in graph.nodes
        }

    def ratio(self, graph: Graph, other: Graph) -> float:
        """Float layers are ``beside`` times as slow as ``seconds`` says."""
        slow = sum(n.op.name == "Conv" for n in graph.nodes) * 3.0 * (self.beside - 1)
        one, whole = self.seconds(graph), self.seconds(other)
        assert one is not None
        assert whole is not None
        return (sum(one.values()) + slow) / sum(whole.values())

    def recall(self, key: str) -> dict[str, str] | None:
        return None if key not in self.stored else dict(self.stored[key])

    def remember(self, key: str, decision: Mapping[str, str]) -> None:
        self.stored[key] = dict(decision)


def chain(cost: Scripted | None) -> tuple[Graph, Context, list[Site]]:
    """Five layers, each a region of its own: between them lie scales, which stay float."""
    b = Builder((1, 4, 5, 5), seed=7)
    x = b.x
    for _ in range(5):
        x = b.op("Mul", b.op("Relu", b.conv(x, 4)), b.normal(1, 4, 1, 1))
    b.done(x)
    context = Context(calibration=b.feeds(4), cost=cost)
    graph, _ = PassManager(first()[:-1]).run(b.graph, context)
    assert len(set(regions_of(graph, context.kept).values())) == 5
    return graph, context, sites_of(graph, plan(graph, context.kept), context.kept)


def first() -> list[Pass]:
    """The passes of w4a8 up to the one that allocates."""
    names = ("canonicalize", "calibrate", "allocate-bits")
    return [p for p in load_recipe("w4a8").passes if p.name in names]


def test_as_good_as_trying_everything_and_never_worse_with_more() -> None:
    graph, context, sites = chain(Scripted())
    layers = [s for s in sites if s.kind == WEIGHTS]
    times = [3.0 + k for k in range(5)]
    more = {s.members[0]: k for k, s in enumerate(layers)}
    context.cost = Scripted({k: float(v) for k, v in more.items()})
    own = np.random.default_rng(8).random(5)
    noise = [float(own[more[s.members[0]]]) if s.kind == WEIGHTS else 0.0 for s in sites]
    whole, before = 5 * 1.25, np.inf
    for part in (1.0, 1.5, 2.0, 3.0, 4.5):
        kept, taken = within_latency(part, graph, context, sites, noise)
        assert taken <= part
        left = sum(n for s, n in zip(sites, noise, strict=True) if s.members[0] not in kept)
        best = min(
            float(own @ [not f for f in floats])
            for floats in product([False, True], repeat=5)
            if whole + sum(f * (t - 1.0) for f, t in zip(floats, times, strict=True))
            <= part * whole + 1e-9
        )
        assert left == pytest.approx(best)
        assert left <= before
        before = left
    assert before == 0


def test_what_the_whole_takes_decides() -> None:
    """Where float is slower together than region by region, fewer stay float."""
    found = []
    for beside in (1.0, 1.5):
        graph, context, sites = chain(Scripted(beside=beside))
        kept, taken = within_latency(2.0, graph, context, sites, [1.0] * len(sites))
        found.append(len(kept))
        assert taken <= 2.0
    assert found[0] > found[1] > 0


def test_what_cannot_be_met_is_refused_with_the_least() -> None:
    graph, context, sites = chain(Scripted())
    with pytest.raises(PreconditionError, match=r"= 0.9 cannot be met: the least is 1.000 of the"):
        within_latency(0.9, graph, context, sites, [1.0] * len(sites))


@pytest.mark.parametrize("measured", [True, False])
def test_only_what_was_measured_is_remembered(measured: bool) -> None:
    cost = Scripted(measured=measured)
    graph, context, sites = chain(cost)
    found = within_latency(2.0, graph, context, sites, [1.0] * len(sites))
    assert len(cost.stored) == measured
    cost.more = {s.members[0]: 9.0 for s in sites}
    again = within_latency(2.0, graph, context, sites, [1.0] * len(sites))
    assert (again == (found[0], pytest.approx(found[1], abs=1e-4))) == measured


def test_without_a_cost_it_is_refused() -> None:
    graph, context, sites = chain(None)
    with pytest.raises(PreconditionError, match="nobody knows what this network takes"):
        within_latency(1.5, graph, context, sites, [1.0] * len(sites))


def test_the_pass_leaves_in_float_what_hurts_most() -> None:
    graph, context, _ = chain(Scripted())
    weight = next(n for n in graph.nodes if n.op.name == "Conv").operands[1]
    loud = np.asarray(weight.data).copy()
    loud[:, 0, 0, 0] *= 60.0  # at 4 bits nothing is left of the others
    graph.assign(weight, loud)
    context.ranges.clear()
    allocate = AllocateBits(latency=1.0 + 2.0 / (5 * 1.25) + 0.01)
    rest = [p for p in load_recipe("w4a8").passes if p.name in ("quantize", "fold-integers")]
    calibrate = first()[1:-1]
    graph.properties -= {"calibrated"}
    small, ledger = PassManager([*calibrate, allocate, *rest]).run(graph, context)
    row = next(r for r in ledger.rows if r.name == "allocate-bits")
    assert row.statistics["float"] == 1
    assert 1.3 < row.statistics["latency"] <= 1.33
    floats = [n.name for n in small.nodes if n.op.name == "Conv"]
    assert floats == list(context.chosen_float) == [graph.nodes[0].name]
    assert "float loses least here" in context.chosen_float[floats[0]]
    assert floats[0] not in context.widths.weights
    assert AllocateBits(latency=1.5).timed
    assert not AllocateBits(weights=4.0).timed
