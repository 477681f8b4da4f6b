"""What graphs cost on this machine: estimated, measured, remembered; and what follows from it."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from graphs import Builder

from qc import api, cli
from qc.backends.codegen.tuning.measurer import Local, Timing
from qc.backends.codegen.tuning.records import Database, Decision, Setting
from qc.backends.codegen.tuning.trial import Trial
from qc.costs import TargetCost
from qc.ir import evaluate
from qc.ir.ops.quantize import DynamicQuantize
from qc.passes import Context, PassManager
from qc.passes.recipe import load_recipe
from qc.reporting.layers import tolerance_db
from qc.scoring.runs import Difference
from qc.targets import load

from .small_model import write_data, write_model

HOST = load("host")


def network(channels: int = 64) -> Builder:
    """Two convolutions, one of them large, and a pooling."""
    b = Builder((1, 16, 20, 20))
    b.done(b.op("GlobalAveragePool", b.conv(b.op("Relu", b.conv(b.x, channels)), 8, 1)))
    return b


@dataclass
class Drifting:
    """A machine whose kernels take a nanosecond a byte at first, and half as long again each time.

    ``disturbed``: the time at which something else makes it ten times slower.
    """

    disturbed: int = -1
    times: int = 0
    name: str = "drifting"
    width: int = 4

    def measure(self, groups: Sequence[Mapping[str, Trial]]) -> list[dict[str, Timing]]:
        speed = 1e-9 * 1.5**self.times * (10 if self.times == self.disturbed else 1)
        self.times += 1
        return [{n: speed * sum(o.bytes for o in t.operands) for n, t in g.items()} for g in groups]


@pytest.mark.parametrize("measured", [False, True])
def test_every_node_has_a_cost_and_larger_ones_a_larger(measured: bool) -> None:
    graph = network().graph
    measurer = Local(HOST) if measured else None
    with closing(TargetCost(HOST, Database(), measurer)) as cost:
        found = cost.seconds(graph)
    assert cost.measured == measured
    assert found is not None
    convs = [n.name for n in graph.nodes if n.op.name == "Conv"]
    assert found[convs[0]] > 3 * found[convs[1]] > 0
    assert sum(found.values()) < 1.0


def test_a_ratio_is_of_times_of_the_same_minute() -> None:
    whole, half, machine = network().graph, network(32).graph, Drifting()
    with closing(TargetCost(HOST, Database(), machine)) as cost:
        found = [cost.ratio(half, whole)]
        for later in (0, 1, 3):
            machine.disturbed = machine.times + later
            found.append(cost.ratio(half, whole))
    assert 0.3 < found[0] < 0.9
    np.testing.assert_allclose(found, found[0], rtol=1e-12)
    with closing(TargetCost(HOST, Database(), Local(HOST))) as cost:
        assert cost.ratio(half, half) == 1
        assert cost.ratio(half, whole) < 1
    estimated = TargetCost(HOST, Database())
    assert estimated.ratio(half, whole) * estimated.ratio(whole, half) == pytest.approx(1)


def test_graphs_without_code_have_no_cost() -> None:
    b = Builder((1, 4, 4, 4))
    b.done(b.op("LpNormalization", b.x, axis=1))
    assert TargetCost(HOST, Database()).seconds(b.graph) is None


def test_measured_decisions_are_replayed_by_a_later_compilation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "m.onnx")
    words = ["compile", "m.onnx", "--db", "db.jsonl", "--set", "choose-precision.measured=1e-6"]
    assert cli.main([*words, "-o", "first", "--tune", "10"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "db.jsonl").read_text().splitlines()]
    decisions = [line for line in lines if "floats" in line]
    assert len(decisions) == 1
    assert decisions[0]["floats"].keys() == {"conv", "relu", "fc"}, "a factor that all exceed"
    assert "times as fast here (measured: " in decisions[0]["floats"]["conv"]
    capsys.readouterr()
    assert cli.main([*words, "-o", "second"]) == 0
    assert "times as fast here (measured: " in capsys.readouterr().out
    reports = [json.loads((tmp_path / n / "report.json").read_text()) for n in ("first", "second")]
    for report in reports:
        layers = {x["name"]: x for x in report["layers"]}
        assert layers["conv"]["precision"] == "float"
        assert "times as fast here (measured: " in layers["conv"]["reason"]
    assert cli.main(["compile", "m.onnx", "-o", "third"]) == 0
    assert cli.main(["explain", "second"]) == 0
    assert "times as fast here" in capsys.readouterr().out


def test_networks_that_stay_float_in_part_pass_their_check(tmp_path: Path) -> None:
    """Float sums before codes: code and reference differ like two ways to quantize."""
    b = Builder((1, 8, 12, 12))
    x = b.op("Relu", b.conv(b.x, 16))
    for _ in range(3):
        x = b.op("Relu", b.op("Add", b.conv(b.op("Relu", b.conv(x, 16)), 16), x))
    graph = b.done(x)
    job = api.Job(graph, recipe="int8-dynamic", keep_float=(graph.nodes[0].name,))
    report = api.compile_to_directory(job, tmp_path / "out")
    assert report.check is not None
    floats = [x for x in report.layers if x["op"] == "Conv" and x["precision"] == "float"]
    assert len(floats) >= 1


def folded(recipe: str, keep: tuple[str, ...]) -> tuple[object, list[dict[str, object]]]:
    b = Builder((1, 8, 8, 8))
    first = b.graph.add(b.conv(b.x, 8).producer.op, [b.x, b.normal(8, 8, 3, 3)], names=["first"])
    b.done(b.conv(b.op("Relu", first.output), 8))
    context = Context(keep_float=keep, calibration=b.feeds(4) if recipe == "int8" else None)
    graph, ledger = PassManager(load_recipe(recipe).passes).run(b.graph, context)
    return graph, [row.as_json() for row in ledger.rows]


@pytest.mark.parametrize("recipe", ["int8", "int8-dynamic"])
def test_codes_after_float_sums_are_judged_by_the_noise_of_quantization(recipe: str) -> None:
    graph, rows = folded(recipe, ("first",))
    db = rows[-1]["sqnr_db"]
    assert isinstance(db, float)
    assert tolerance_db(graph, rows) == pytest.approx(db - 6.0)  # type: ignore[arg-type]
    assert tolerance_db(graph, [{"sqnr_db": None}]) is None  # type: ignore[arg-type]
    assert tolerance_db(graph, []) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("recipe", ["int8", "int8-dynamic"])
def test_exact_networks_have_no_tolerance(recipe: str) -> None:
    graph, rows = folded(recipe, ())
    assert tolerance_db(graph, rows) is None  # type: ignore[arg-type]


def test_float_ops_that_are_exact_move_no_codes() -> None:
    b = Builder((1, 4, 4, 4))
    exact = b.op("Relu", b.op("Add", b.x, b.x))
    b.done(b.graph.add(DynamicQuantize(1), [exact]).outputs[0])
    assert tolerance_db(b.graph, [{"sqnr_db": 30.0}]) is None
    b = Builder((1, 4, 4, 4))
    b.done(b.graph.add(DynamicQuantize(1), [b.op("Sigmoid", b.x)]).outputs[0])
    assert tolerance_db(b.graph, [{"sqnr_db": 30.0}]) == 24.0


@pytest.mark.parametrize(
    ("gap", "db", "fine"), [(1e-3, None, True), (0.03, None, False), (0.03, 24.0, True),
                            (0.1, 24.0, False), (0.03, 60.0, False)],
)  # fmt: skip
def test_the_tolerance_is_a_level_below_the_outputs(
    gap: float, db: float | None, fine: bool
) -> None:
    reference = np.random.default_rng(0).standard_normal(1000)
    found = Difference()
    noise = np.random.default_rng(1).standard_normal(1000) * gap
    found.update({"y": reference + noise}, {"y": reference})
    assert found.passes(True, db) == fine
    assert not found.passes(False, db)


def test_a_network_with_a_float_layer_evaluates_the_same(tmp_path: Path) -> None:
    """The reference of a partly float network is the network, within its quantization."""
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "calib.npz", 8)
    graph = api.load(tmp_path / "m.onnx")
    artifact = api.compile(graph, calibration=tmp_path / "calib.npz", keep_float=("conv",))
    feed = {"x": np.random.default_rng(3).standard_normal((1, 2, 8, 8)).astype(np.float32)}
    real, ours = evaluate(graph, feed)["y"], artifact.run(feed)["y"]
    assert np.abs(real - ours).max() < 0.1 * np.abs(real).max()


def test_who_measures_takes_no_other_machines_decision() -> None:
    database = Database()
    setting = Setting.of(HOST)
    database.decide(Decision(setting, "rpc elsewhere", "key", (("conv", "slow there"),)))
    assert TargetCost(HOST, database).recall("key") == {"conv": "slow there"}
    assert TargetCost(HOST, database, Local(HOST)).recall("key") is None


def test_kernels_of_many_operands_are_estimated() -> None:
    """More pointers than the timer takes: no reason to fail."""
    b = Builder((1, 16, 6, 6))
    b.done(b.op("Sum", *[b.conv(b.x, 16, 1) for _ in range(9)]))
    with closing(TargetCost(HOST, Database(), Local(HOST))) as cost:
        found = cost.seconds(b.graph)
    assert found is not None
    assert all(seconds > 0 for seconds in found.values())


def test_noise_without_bound_is_no_tolerance() -> None:
    b = Builder((1, 4, 4, 4))
    b.done(b.graph.add(DynamicQuantize(1), [b.op("Sigmoid", b.x)]).outputs[0])
    assert tolerance_db(b.graph, [{"sqnr_db": 5.0}]) == 10.0
