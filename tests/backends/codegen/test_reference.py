"""Networks in number formats: an artifact without code, the whole path and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_model import write_place

import qc
from qc import api
from qc.backends.codegen import reference
from qc.cli import main
from qc.ir.errors import BackendError, DataError, TargetError
from qc.ir.evaluate import evaluate
from qc.ir.text import load
from qc.models import open_artifact

PRECISIONS = {"bfp": "bfp8-16", "mxfp4": "mxfp8-e4m3 x mxfp4", "w4-group": "int4-32"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("formats"), 6, 12)


@pytest.fixture(scope="module", params=list(PRECISIONS))
def out(place: Path, request: pytest.FixtureRequest) -> Path:
    job = api.Job(
        place / "m.onnx", recipe=request.param, calibration=place / "calib.npz",
        evaluation=place / "eval.npz", verify=True,
    )  # fmt: skip
    api.compile_to_directory(job, place / request.param)
    return place / request.param


def test_the_report_says_that_the_reference_runs(out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    assert any("no kernels yet, the numpy reference runs" in note for note in report["notes"])
    assert "by the numpy reference" in report["ledger"][-1]["statistics"]["runs"]
    assert report["check"] is None
    precisions = {x["name"]: x["precision"] for x in report["layers"]}
    assert precisions["conv"].startswith(PRECISIONS[out.name])
    assert precisions["relu"] == "float"
    assert report["evaluation"]["compiled"] >= 0.5


def test_weights_are_stored_packed(out: Path, place: Path) -> None:
    manifest = json.loads((out / "manifest.json").read_text())
    assert not (out / "lib.so").exists()
    rows = json.loads((out / "report.json").read_text())["ledger"]
    assert manifest["weight_bytes"] == rows[-1]["bytes"] < rows[0]["bytes"]
    packed = [v for v in load(out).constants if v.type.dtype == "uint8"]
    assert len(packed) == 2
    assert manifest["reference"] == sorted(
        {n.op.format for n in load(out).nodes if n.op.name == "Decode"}
    )


def test_it_runs_as_the_graph_says(out: Path, place: Path) -> None:
    graph, artifact = load(out), qc.Artifact.load(str(out))
    assert "no kernels yet" in artifact.note
    for x in np.load(place / "calib.npz")["x"]:
        (want,) = evaluate(graph, {"x": x[None]}).values()
        (got,) = artifact.run({"x": x[None]}).values()
        np.testing.assert_array_equal(got, want)
    assert open_artifact(out).note == artifact.note


def test_many_weights_are_unpacked_whenever_they_are_read(
    out: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = {"x": np.load(place / "calib.npz")["x"][:1]}
    once = qc.Artifact.load(str(out)).run(feed)
    monkeypatch.setattr(reference, "UNPACKED", 0)
    np.testing.assert_array_equal(qc.Artifact.load(str(out)).run(feed)["y"], once["y"])


def test_commands(out: Path, place: Path, capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    inputs = ["--inputs", str(place / "calib.npz")]
    assert main(["run", str(out), *inputs, "-o", str(tmp_path / "y.npz")]) == 0
    assert "no kernels yet, the numpy reference runs" in capsys.readouterr().out
    assert np.load(tmp_path / "y.npz")["y"].shape == (6, 4)
    assert main(["run", str(out), *inputs, "--reference"]) == 0
    assert "loaded artifact: 0 of 24 values differ" in capsys.readouterr().out
    assert main(["eval", str(out), "--data", str(place / "eval.npz")]) == 0
    assert main(["explain", str(out)]) == 0
    assert "0 layers in integers, 2 in number formats, 2 in float" in capsys.readouterr().out


def test_what_needs_code_is_refused(out: Path, place: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="runs on one thread, not on 2"):
        qc.Artifact.load(str(out), 2)
    with pytest.raises(TargetError, match="leave out --device"):
        qc.Artifact.load(str(out), device="localhost:9")
    job = api.Job(place / "m.onnx", recipe="mxfp4", tune=1.0, database=tmp_path / "db")
    with pytest.raises(DataError, match="there is nothing to tune: mxfp4, mxfp8-e4m3: no kernels"):
        api.compile_to_directory(job, tmp_path / "out")
    with pytest.raises(DataError, match="there is nothing to tune"):
        api.tune(api.Job(out, database=tmp_path / "db"), 1.0)


def test_damaged_weights_are_seen(out: Path, tmp_path: Path) -> None:
    qc.Artifact.load(str(out)).save(tmp_path / "copy")
    data = tmp_path / "copy" / "graph.safetensors"
    data.write_bytes(data.read_bytes()[:-1] + b"\x55")
    with pytest.raises(BackendError, match=r"graph\.safetensors' does not match the hash"):
        qc.Artifact.load(str(tmp_path / "copy"))


def test_other_machines_run_the_same(place: Path) -> None:
    """The reference needs no machine of its own."""
    artifact = qc.compile(str(place / "m.onnx"), target="arm-v7", recipe="mxfp4")
    x = np.ones((1, 2, 8, 8), np.float32)
    assert np.isfinite(artifact.run({"x": x})["y"]).all()
