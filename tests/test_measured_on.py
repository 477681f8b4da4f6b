"""``--measured-on``: one machine's word for kernels and for what passes ask, and what it lacks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from qc import api, cli
from qc.backends.codegen.template import TemplateKernel, by_estimate, candidates
from qc.backends.codegen.tuning.measurer import Local
from qc.backends.codegen.tuning.records import Database, Decision, Record, Setting
from qc.costs import TargetCost
from qc.ir.text import load as load_graph
from qc.targets import load
from qc.tuning import workloads_of

from .small_model import write_data, write_model

HOST = load("host")
SETTING = Setting.of(HOST)
LATENCY = ("--recipe", "prune-int8", "--set", "prune-channels.latency=0.75")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    write_model(folder / "m.onnx")
    write_data(folder / "calib.npz", 8)
    return folder


@pytest.fixture(scope="module")
def kernels(place: Path) -> list[TemplateKernel]:
    """What the network takes by estimate."""
    job = api.Job(place / "m.onnx", calibration=place / "calib.npz", database=place / "none")
    api.compile_to_directory(job, place / "plain")
    found = list(workloads_of(load_graph(place / "plain"), HOST))
    assert len(found) == 2
    return found


def slowest(kernel: TemplateKernel) -> TemplateKernel:
    """What nobody would take by estimate."""
    return candidates(kernel.workload, kernel.features)[-1]


def measured(kernels: Sequence[TemplateKernel], who: str) -> list[Record]:
    return [Record.of(SETTING, who, slowest(k), 1e-6, final=True) for k in kernels]


def compiled(place: Path, database: Database, *more: str) -> int:
    """The exit code."""
    assert database.path is not None
    words = ["compile", str(place / "m.onnx"), "--calib", str(place / "calib.npz")]
    words += ["--db", str(database.path), "-o", str(database.path.with_name("out"))]
    return cli.main([*words, "--measured-on", "pi", *more])


def test_passes_are_answered_by_the_one_who_is_named() -> None:
    database = Database()
    for who in ("pi", "other"):
        database.decide(Decision(SETTING, who, f"seen by {who}", (("conv", who),)))
    named, here = TargetCost(HOST, database, wanted="pi"), TargetCost(HOST, database)
    assert named.recall("seen by pi") == here.recall("seen by pi") == {"conv": "pi"}
    assert named.recall("seen by other") is None
    assert here.recall("seen by other") == {"conv": "other"}
    assert not named.measured


def test_an_estimate_is_not_of_kernels_that_were_measured(
    place: Path, kernels: list[TemplateKernel]
) -> None:
    """They are the fastest, whatever the estimate makes of them; else codes lose to reals here."""
    database, graph = Database(), load_graph(place / "plain")
    before = TargetCost(HOST, database).seconds(graph)
    database.add(measured(kernels, "pi"))
    assert TargetCost(HOST, database).seconds(graph) == before
    assert kernels[0] != slowest(kernels[0])


def test_a_compilation_takes_the_named_machines_decision(
    place: Path, kernels: list[TemplateKernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    database, asked, recall = Database(tmp_path / "db"), [], TargetCost.recall
    database.add(measured(kernels, "pi"))

    def overheard(cost: TargetCost, key: str) -> dict[str, str] | None:
        asked.append(key)
        return recall(cost, key)

    with monkeypatch.context() as patch:
        patch.setattr(TargetCost, "recall", overheard)
        assert compiled(place, database) == 0
    assert "float: conv" not in capsys.readouterr().out
    for name, why in (("pi", "slow on pi"), ("other", "slow on another")):
        database.decide(Decision(SETTING, name, asked[0], (("conv", why),)))
    assert compiled(place, database) == 0
    assert "float: conv (Conv): slow on pi" in capsys.readouterr().out


def test_what_it_has_not_measured_is_counted(
    place: Path, kernels: list[TemplateKernel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = Database(tmp_path / "db")
    database.add(measured(kernels[:1], "pi"))
    assert compiled(place, database) == 0
    line = f"kernels: 1 of 2 workloads as measured, from {tmp_path / 'db'}, on pi; 1 by estimate\n"
    assert line in capsys.readouterr().out
    database.add(measured(kernels, "a mac"))
    assert compiled(place, database) == 0
    line = f"kernels: 2 of 2 workloads as measured, from {tmp_path / 'db'}, on pi (1), a mac (1)\n"
    assert line in capsys.readouterr().out


def test_a_machine_that_measured_nothing_of_this_network_is_refused(
    place: Path, kernels: list[TemplateKernel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = Database(tmp_path / "db")
    workload = replace(kernels[0].workload, dilations=(2, 2))
    database.add(measured([by_estimate(workload, HOST.features)], "pi"))
    database.add(measured(kernels, "other"))
    assert compiled(place, database) == 2
    error = capsys.readouterr().err
    assert "--measured-on 'pi': none of the 2 workloads of this network were measured" in error
    assert not (tmp_path / "out").exists()


def test_a_latency_budget_of_another_machine_is_not_timed_here(
    place: Path, kernels: list[TemplateKernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, timed = Database(tmp_path / "db"), []
    database.add(measured(kernels, "pi"))
    monkeypatch.setattr(Local, "measure", lambda *_: timed.append(1))
    compiled(place, database, *LATENCY)
    assert not timed


def test_who_measures_asks_nobody_else(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compiled(place, Database(tmp_path / "db"), "--device", "127.0.0.1:9") == 2
    assert "--measured-on takes other times: give one" in capsys.readouterr().err
