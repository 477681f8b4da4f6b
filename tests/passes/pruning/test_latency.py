"""Latency budgets: what a target says is met, in counts that its kernels work on together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from graphs import residual_net

from qc import passes
from qc.backends.codegen.tuning.records import Database
from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.costs import TargetCost
from qc.ir import Graph
from qc.ir.coupling import Coupling
from qc.ir.errors import PassError, PreconditionError
from qc.passes import Context, PassManager
from qc.passes.measure import node_macs
from qc.passes.pruning.latency import Latency
from qc.passes.recipe import load_recipe
from qc.targets import load


@dataclass
class Machine:
    """A made-up target: a microsecond a node, and what its kernels make of channels."""

    lanes: int = 4
    compiles: bool = True
    measured: bool = True
    seen: list[Graph] = field(default_factory=list)
    stored: dict[str, dict[str, str]] = field(default_factory=dict)

    def seconds(self, graph: Graph) -> dict[str, float] | None:
        self.seen.append(graph)
        times = {}
        for node in graph.nodes:
            written = sum(v.type.size for v in node.outputs)
            times[node.name] = 1e-6 + 1e-9 * node_macs(node) + 1e-8 * written
        return times if self.compiles else None

    def ratio(self, graph: Graph, other: Graph) -> float:
        one, whole = (sum((self.seconds(g) or {}).values()) for g in (graph, other))
        return one / whole

    def recall(self, key: str) -> dict[str, str] | None:
        return self.stored.get(key)

    def remember(self, key: str, decision: Mapping[str, str]) -> None:
        self.stored[key] = dict(decision)


def compressed(cost: Machine | None, **options: object) -> tuple[Graph, dict[str, object]]:
    """The small float network, and what the ledger says."""
    context = Context(
        calibration=residual_net().feeds(8), cost=cost, executor=OnnxRuntimeExecutor()
    )
    later = [p for p in load_recipe("int8").passes if p.name not in ("canonicalize",)]
    first = [passes.Canonicalize(), passes.PruneChannels(**options)]
    small, ledger = PassManager(first, later).run(residual_net().graph, context)
    return small, ledger.rows[-1].statistics


@pytest.mark.parametrize("part", [0.8, 0.6])
def test_the_budget_is_met_by_what_the_target_says(part: float) -> None:
    cost = Machine()
    small, said = compressed(cost, latency=part, allocation="ranked", compensate="none")
    widths = [n.operands[1].shape[0] for n in small.nodes if n.op.name == "Conv"]
    assert all(w % cost.lanes == 0 for w in widths)
    assert any(n.op.name == "QConv" for n in cost.seen[0].nodes), "what follows is timed, too"
    times = [sum((cost.seconds(g) or {}).values()) for g in list(cost.seen)]
    assert said["latency"] in [round(t / times[0], 4) for t in times]
    assert part - 0.2 < said["latency"] <= part


def test_what_was_measured_is_taken_again_without_measuring() -> None:
    cost = Machine()
    first = compressed(cost, latency=0.7, compensate="none")
    asked = len(cost.seen)
    second = compressed(cost, latency=0.7, compensate="none")
    assert len(cost.seen) == asked
    assert str(first[0]) == str(second[0])
    assert first[1]["latency"] == second[1]["latency"]
    compressed(cost, latency=0.6, compensate="none")
    assert len(cost.seen) > asked, "another budget is another question"
    estimated = Machine(measured=False)
    compressed(estimated, latency=0.7, compensate="none")
    assert not estimated.stored


def test_counts_can_be_free() -> None:
    small, said = compressed(Machine(lanes=8), latency=0.7, round_to=1, compensate="none")
    widths = [n.operands[1].shape[0] for n in small.nodes if n.op.name == "Conv"]
    assert any(w % 8 for w in widths)
    assert 0.66 < said["latency"] <= 0.7


def test_a_sum_of_products_is_learned_exactly() -> None:
    graph = residual_net().graph
    context = Context(calibration=residual_net().feeds(2), cost=Machine())
    coupling = Coupling(graph)
    times = Latency(coupling, coupling.deletable(), context)
    times.explore(2)
    rng = np.random.default_rng(0)
    for _ in range(5):
        kept = np.array([int(rng.integers(1, n + 1)) for n in times.sizes])
        assert times.budget().cost(kept) == pytest.approx(times.seconds(kept), rel=1e-6)


def test_refusals() -> None:
    with pytest.raises(PreconditionError, match="nobody knows what this target takes"):
        compressed(None, latency=0.7)
    with pytest.raises(PassError, match="no code for this network"):
        compressed(Machine(compiles=False), latency=0.7)
    with pytest.raises(PassError, match=r"0\.01 of the latency cannot be met; the least reachable"):
        compressed(Machine(), latency=0.01)


def test_a_real_target_is_estimated() -> None:
    target = load("x86")
    cost = TargetCost(target, Database())
    assert cost.lanes == 16
    assert TargetCost(load("x86-vnni"), Database()).lanes == 16
    _, said = compressed(cost, latency=0.75, round_to=2, compensate="none", allocation="ranked")
    assert 0.6 < said["latency"] <= 0.77
