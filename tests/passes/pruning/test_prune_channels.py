"""The pass: budgets, options, what it refuses, and real networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import Builder, residual_net

from qc import api, passes
from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir import Graph
from qc.ir.errors import PassError, PreconditionError
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify
from qc.passes import Context, PassManager
from qc.passes.measure import macs, parameters, weight_bytes
from qc.passes.pruning.synthetic import synthetic
from qc.passes.table import make_pass


def context(count: int = 8) -> Context:
    return Context(calibration=residual_net().feeds(count), executor=OnnxRuntimeExecutor())


def pruned(graph: Graph, **options: object) -> Graph:
    small, _ = PassManager([passes.Canonicalize(), passes.PruneChannels(**options)]).run(
        graph, context()
    )
    verify(small)
    return small


@pytest.mark.parametrize(
    ("unit", "measure"), [("macs", macs), ("parameters", parameters), ("bytes", weight_bytes)]
)
def test_budgets_are_met(unit: str, measure: object) -> None:
    graph = residual_net().graph
    small = pruned(graph, **{unit: 0.6})
    part = measure(small) / measure(graph)  # type: ignore[operator]
    assert 0.5 < part <= 0.6


@pytest.mark.parametrize("criterion", ["obs", "l1", "l2"])
@pytest.mark.parametrize("allocation", ["uniform", "ranked", "rate-distortion"])
def test_criteria_and_allocations(criterion: str, allocation: str) -> None:
    graph = residual_net().graph
    small = pruned(graph, macs=0.7, criterion=criterion, allocation=allocation)
    assert macs(small) <= 0.7 * macs(graph)
    feed = residual_net().feeds(1)[0]
    before, after = evaluate(graph, feed), evaluate(small, feed)
    assert before.keys() == after.keys()


@pytest.mark.parametrize("aggregate", ["mean", "sum", "max", "prod"])
@pytest.mark.parametrize("normalize", ["none", "mean", "sum", "max", "gauss", "lamp"])
def test_aggregates_and_normalisations(aggregate: str, normalize: str) -> None:
    graph = residual_net().graph
    small = pruned(
        graph, macs=0.7, criterion="l1", aggregate=aggregate, normalize=normalize,
        allocation="ranked", compensate="none",
    )  # fmt: skip
    assert macs(small) <= 0.7 * macs(graph)


def test_counts_are_rounded() -> None:
    small = pruned(residual_net().graph, macs=0.6, round_to=8)
    widths = [n.operands[1].shape[0] for n in small.nodes if n.op.name == "Conv"]
    assert all(w % 8 == 0 for w in widths)
    assert min(widths) < 16


def test_groups_can_be_chosen() -> None:
    graph = residual_net().graph
    small = pruned(graph, macs=0.9, skip="w", allocation="uniform", min_channels=4)
    assert small.nodes[0].operands[1].shape[0] == 16, "the group of the first weight stays"


def test_all_of_it_is_all_of_it_and_nothing_said_is_half() -> None:
    graph = residual_net().graph
    assert macs(pruned(graph, macs=1)) == macs(graph)
    assert 0.4 * macs(graph) < macs(pruned(graph)) <= 0.5 * macs(graph)


def test_the_input_graph_stays_and_the_run_repeats_to_the_bit() -> None:
    graph = residual_net().graph
    before = str(graph)
    first, second = (pruned(graph, macs=0.6) for _ in range(2))
    assert str(graph) == before
    assert str(first) == str(second)
    for a, b in zip(first.constants, second.constants, strict=True):
        assert np.array_equal(a.data, b.data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"macs": 0.5, "bytes": 0.5}, "give one of macs, bytes, not several"),
        ({"macs": 1.5}, "macs is the fraction kept, above 0 and at most 1"),
        ({"macs": 0.0}, "macs is the fraction kept"),
        ({"criterion": "l3"}, "criterion 'l3' is unknown; did you mean 'l[12]'"),
        ({"allocation": "dp"}, "allocation 'dp' is unknown"),
        ({"samples": 0}, "samples, .* are at least 1"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(PreconditionError, match=message):
        make_pass("prune-channels", options)


def test_a_budget_out_of_reach() -> None:
    with pytest.raises(PassError, match=r"cannot be met; the least reachable is 0\.0"):
        pruned(residual_net().graph, macs=0.001)


def test_nothing_to_prune_lists_why() -> None:
    b = Builder()
    b.done(b.conv(b.x, 4))
    ctx = Context(calibration=b.feeds(2))
    manager = PassManager([passes.Canonicalize(), passes.PruneChannels(macs=0.5)])
    with pytest.raises(PassError, match=r"no channels can be deleted: w\.0 \(graph output\)"):
        manager.run(b.graph, ctx)


def test_what_was_kept_is_known_and_drawn(tmp_path: Path) -> None:
    net = residual_net()
    job = api.Job(net.graph, recipe="prune-int8", calibration=net.feeds(8))
    report = api.compile_to_directory(job, tmp_path / "out")
    groups = report.pruned
    assert len(groups) == 3
    assert any(g["kept"] < g["channels"] for g in groups)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Channels kept in every group" in page
    assert f"{groups[0]['kept']} of {groups[0]['channels']}" in page
    rows = [r for r in report.ledger if r["pass"] == "prune-channels"]
    assert rows[0]["statistics"]["macs"] <= 0.5


def test_without_data_images_are_made_up() -> None:
    graph = residual_net().graph
    manager = PassManager([passes.Canonicalize(), passes.PruneChannels(macs=0.7, samples=24)])
    small, ledger = manager.run(graph, Context())
    assert ledger.rows[-1].statistics["data"] == "synthetic"
    assert macs(small) <= 0.7 * macs(graph)


def test_made_up_images_are_scaled_as_the_first_norm_remembers() -> None:
    b = Builder((1, 3, 12, 12))
    w = b.normal(8, 3, 3, 3)
    y = b.op("Conv", b.x, w)
    real = [(3.0 + 2.5 * f["x"]).astype(np.float32) for f in synthetic(_only(b), Context(), 40)]
    maps = np.concatenate([evaluate(b.graph, {"x": x}, [y.name])[y.name] for x in real])
    seen = [maps.mean((0, 2, 3)), maps.var((0, 2, 3))]
    norm = b.op("BatchNormalization", y, *map(b.const, (np.ones(8), np.zeros(8), *seen)))
    b.done(b.conv(norm, 4))
    found = np.concatenate([f["x"] for f in synthetic(b.graph, Context(seed=7), 60)])
    assert found.mean() == pytest.approx(3.0, abs=0.3)
    assert found.std() == pytest.approx(2.5, rel=0.15)


def _only(b: Builder) -> Graph:
    b.graph.outputs = [b.graph.nodes[-1].output]
    return b.graph
