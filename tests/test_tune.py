"""Tuning from the command line: records are written, replayed, and survive interruptions."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from graphs import three_convolutions

pytest.importorskip("tvm")

from qc import Artifact, api, cli
from qc.backends.codegen.template import scheduled
from qc.backends.codegen.tuning.records import Database, Record, Setting
from qc.ir.errors import DataError
from qc.ir.text import load as load_graph
from qc.targets import load
from qc.tuning import SEARCHERS, database_path, workloads_of

from .searches import searching
from .small_model import write_data, write_model

LATENCY = ("--recipe", "prune-int8", "--set", "prune-channels.latency=0.75")
SCHEDULES = ("--searcher", "metaschedule")
INTEGERS = "choose-precision.measured"
"""What is measured may prefer float; tests of kernels want integers."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    write_model(folder / "m.onnx")
    write_data(folder / "calib.npz", 8)
    return folder


@pytest.fixture(scope="module")
def tuned(place: Path) -> dict[str, object]:
    """What tuning a model said; the records are in ``place / "db.jsonl"``."""
    job = api.Job(
        place / "m.onnx", calibration=place / "calib.npz", database=place / "db.jsonl",
        options={INTEGERS: 1e9},
    )  # fmt: skip
    return api.tune(job, 100.0)


def test_a_model_is_tuned_and_the_records_are_written(
    tuned: dict[str, object], place: Path
) -> None:
    workloads = tuned["workloads"]
    assert isinstance(workloads, list)
    assert [w["left"] for w in workloads] == [0] * len(workloads)
    assert len(workloads) == 2
    assert all(w["default_us"] >= w["best_us"] > 0 for w in workloads)
    lines = (place / "db.jsonl").read_text().splitlines()
    measured = sum(w["measured"] for w in workloads)
    assert len(lines) > measured > 2
    assert {json.loads(line)["measurer"] for line in lines} == {tuned["measurer"]}


def test_a_compilation_takes_the_records_and_gives_the_same_values(
    tuned: dict[str, object], place: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    words = ["compile", "m.onnx", "--calib", "calib.npz", "-o"]
    assert cli.main([*words, "plain"]) == 0
    assert "kernels: 2 workloads by estimate (qc tune measures them)" in capsys.readouterr().out
    assert cli.main([*words, "tuned", "--db", "db.jsonl"]) == 0
    assert "kernels: 2 of 2 workloads as measured, from db.jsonl" in capsys.readouterr().out
    report = json.loads((place / "tuned" / "report.json").read_text())
    assert report["tuning"] == {
        "database": "db.jsonl", "workloads": 2, "recorded": 2, "skipped_lines": 0,
        "measured_on": {tuned["measurer"]: 2},
    }  # fmt: skip
    feed = {"x": np.random.default_rng(0).standard_normal((1, 2, 8, 8)).astype(np.float32)}
    plain, better = (Artifact.load(name).run(feed) for name in ("plain", "tuned"))
    np.testing.assert_array_equal(plain["y"], better["y"])


def test_an_artifact_is_tuned_without_measuring_twice(
    tuned: dict[str, object], place: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    assert cli.main(["compile", "m.onnx", "--calib", "calib.npz", "-o", "again"]) == 0
    before = (place / "db.jsonl").read_text()
    words = ["tune", "again", "--db", "db.jsonl", "--seconds", "60", "--json", "t.json"]
    assert cli.main(words) == 0
    assert (place / "db.jsonl").read_text() == before
    out = capsys.readouterr().out
    assert "times the speed of the defaults" in out
    assert "records are in db.jsonl" in out
    found = json.loads((place / "t.json").read_text())
    assert found["target"] == "host"
    assert found["workloads"][0]["best_us"] == tuned["workloads"][0]["best_us"]  # type: ignore[index]


def test_compile_tunes_first_when_asked(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    words = ["compile", "m.onnx", "-o", "first", "--tune", "60", "--db", "own.jsonl"]
    words += ["--set", f"{INTEGERS}=1e9"]
    assert cli.main([*words, "--calib", "calib.npz"]) == 0
    assert "kernels: 2 of 2 workloads as measured, from own.jsonl" in capsys.readouterr().out


def test_schedules_are_replayed_without_a_search(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every layer by a schedule of no steps, which is the computation as it is written."""
    monkeypatch.chdir(place)
    words = ["compile", "m.onnx", "--calib", "calib.npz", "--set", "choose-precision.estimated=1e9"]
    assert cli.main([*words, "-o", "templates"]) == 0
    target = load("host")
    records = [
        Record.of(Setting.of(target), "here", scheduled(k.workload, k.features, "[[],[]]"), 1e-6)
        for k in workloads_of(load_graph(place / "templates"), target)
    ]
    Database.open(place / "schedules.jsonl").add(records)
    assert cli.main([*words, "-o", "schedules", "--db", "schedules.jsonl"]) == 0
    assert "kernels: 2 of 2 workloads as measured, from schedules" in capsys.readouterr().out
    feed = {"x": np.random.default_rng(0).standard_normal((1, 2, 8, 8)).astype(np.float32)}
    one, other = (Artifact.load(name).run(feed) for name in ("templates", "schedules"))
    np.testing.assert_array_equal(one["y"], other["y"])
    other = Artifact.load("schedules", threads=2).run(feed)
    np.testing.assert_array_equal(one["y"], other["y"])


@pytest.mark.slow
def test_a_model_is_tuned_by_schedules(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert cli.main(["compile", "m.onnx", "--calib", "calib.npz", "-o", "before"]) == 0
    words = ["tune", "before", *SCHEDULES, "--db", "searched.jsonl", "--seconds", "12"]
    assert cli.main([*words, "--json", "s.json"]) == 0
    capsys.readouterr()
    records = [json.loads(line) for line in (place / "searched.jsonl").read_text().splitlines()]
    schedules = [r for r in records if r["template"] == "metaschedule"]
    assert schedules
    assert not [r["error"] for r in schedules if "differs" in r["error"]]
    found = json.loads((place / "s.json").read_text())
    assert all(w["best_us"] <= w["default_us"] for w in found["workloads"])
    assert all(set(w["knobs"]) for w in found["workloads"])


def test_broken_lines_are_said_and_kept(
    tuned: dict[str, object], place: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    text = "torn {\n" + (place / "db.jsonl").read_text() + '{"foreign": 1}\n'
    (place / "broken.jsonl").write_text(text)
    words = ["compile", "m.onnx", "-o", "b", "--calib", "calib.npz", "--db", "broken.jsonl"]
    assert cli.main(words) == 0
    assert "2 lines are no records of this version; they are skipped and kept" in caplog.text
    assert (place / "broken.jsonl").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tune", "m.onnx", "--seconds", "0"), "argument --seconds: invalid"),
        (("tune", "m.onnx", "--seconds", "nan"), "argument --seconds: invalid"),
        (("tune", "no", "--seconds", "9"), "model 'no' does not exist"),
        (("tune", ".", "--seconds", "9"), "'.' is no artifact"),
        (("tune", "m.onnx", "--db", "."), "database '.' is a folder"),
        (("tune", "m.onnx", "--db", "m.onnx/x"), "cannot be written"),
        (("compile", "m.onnx", "-o", "o", "--tune", "9", "--db", "m.onnx/x"), "cannot be written"),
        (("tune", "m.onnx", "--target", "arm"), "cannot be timed here"),
        (("tune", "m.onnx", "--target", "x68"), "did you mean 'x86'"),
        (("compile", "m.onnx", "-o", "o", "--tune", "9", "--target", "arm"), "cannot be timed"),
        (("compile", "m.onnx", "-o", "o", "--tune", "-1"), "argument --tune: invalid"),
        (("tune", "m.onnx", "--searcher", "ansor"), "argument --searcher: invalid choice"),
        (("compile", "m.onnx", "-o", "o", *SCHEDULES), "--searcher says how to tune"),
        (
            ("compile", "m.onnx", "-o", "o", "--tune", "1", "--measured-on", "pi"),
            "--measured-on takes other times: give one",
        ),
        (("compile", "m.onnx", "-o", "o", *LATENCY, "--measured-on", "pi"), "'pi' is nobody"),
        (("compile", "no", "-o", "o", "--measured-on", "pi"), "'pi' is nobody"),
        (("tune", "m.onnx", *SCHEDULES, "--device", "127.0.0.1:9"), "leave out --device"),
        (("tune", "m.onnx", *SCHEDULES, "--bundle", "b.tar"), "a bundle holds what templates"),
    ],
)
def test_bad_usage_is_one_line(
    place: Path, arguments: tuple[str, ...], message: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    try:
        code = cli.main(arguments)
    except SystemExit as error:
        code = int(str(error.code))
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("qc: error: ")]
    assert code == 2
    assert len(errors) == 1
    assert message in errors[0]


def test_ctrl_c_keeps_the_records_so_far(place: Path) -> None:
    """Interrupted as soon as the first records are there; what is there is whole."""
    path, net = place / "interrupted.jsonl", three_convolutions()
    api.compile(net.graph, calibration=net.feeds()).save(place / "long")
    process = searching(place / "long", path)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "qc: interrupted"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records
    assert all(r["qc"] == 1 for r in records)


def test_the_command_line_knows_all_searchers() -> None:
    args = cli.parser().parse_args(["tune", "m.onnx"])
    assert args.searcher == SEARCHERS[0]
    for name in SEARCHERS:
        assert cli.parser().parse_args(["tune", "m.onnx", "--searcher", name]).searcher == name
    with pytest.raises(DataError, match="unknown searcher 'templats'; did you mean 'templates'"):
        api.tune(api.Job("m.onnx", searcher="templats"))


def test_where_the_database_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QC_DB", str(tmp_path / "env.jsonl"))
    assert database_path("given.jsonl") == Path("given.jsonl")
    assert database_path(None) == tmp_path / "env.jsonl"
    monkeypatch.delenv("QC_DB")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert database_path(None) == tmp_path / "qc" / "tuning.jsonl"
    with pytest.raises(DataError, match="is a folder"):
        database_path(tmp_path)
