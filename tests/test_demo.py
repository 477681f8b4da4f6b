"""The demo: its files are what README says, and its commands do what they should."""

import json
import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

import qc
from qc import cli

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo"
FLOAT_ACCURACY = 0.985
Arrays = dict[str, "np.ndarray"]


def module(name: str) -> ModuleType:
    """A file of the demo, which is no package, as a module."""
    spec = spec_from_file_location(f"demo_{name}", DEMO / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(str(DEMO / "digits.onnx"))


@pytest.fixture(scope="module")
def calib() -> Arrays:
    return dict(np.load(DEMO / "calib.npz"))


@pytest.fixture(scope="module")
def test_set() -> Arrays:
    return dict(np.load(DEMO / "eval.npz"))


def test_the_files_are_small() -> None:
    sizes = {f.name: f.stat().st_size for f in DEMO.iterdir() if f.is_file()}
    assert {"digits.onnx", "calib.npz", "eval.npz"} <= sizes.keys()
    assert sum(sizes.values()) < 1_000_000


def test_the_network_has_what_the_demo_is_to_show(model: onnx.ModelProto) -> None:
    ops = [node.op_type for node in model.graph.node]
    groups = [
        attribute.i
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "group"
    ]
    assert ops.count("BatchNormalization") == ops.count("Conv") > 10
    assert ops.count("Add") >= 3
    assert max(groups) > 16
    assert model.opset_import[0].version >= 17


def test_the_data_fit_the_network(calib: Arrays, test_set: Arrays) -> None:
    assert calib["image"].shape == (128, 1, 8, 8)
    assert test_set["image"].shape == (500, 1, 8, 8)
    assert calib.keys() == {"image"}
    assert sorted(set(test_set["labels"].tolist())) == list(range(10))
    for images in (calib["image"], test_set["image"]):
        assert images.dtype == np.float32
        assert (images.min(), images.max()) == (0, 1)


def test_no_image_is_in_both_sets(calib: Arrays, test_set: Arrays) -> None:
    assert {x.tobytes() for x in calib["image"]}.isdisjoint(x.tobytes() for x in test_set["image"])


def test_the_files_hold_the_fixed_split(calib: Arrays, test_set: Arrays) -> None:
    pytest.importorskip("sklearn", reason="the digits are in scikit-learn")
    split = module("digits").split()
    assert np.array_equal(split.calibration, calib["image"])
    assert np.array_equal(split.test, test_set["image"])
    assert np.array_equal(split.test_labels, test_set["labels"])
    train = {x.tobytes() for x in split.train}
    assert len(split.train) + len(split.test) == 1797
    assert train.isdisjoint(x.tobytes() for x in split.test)
    assert train.issuperset(x.tobytes() for x in split.calibration)


def test_the_float_network_reaches_its_accuracy(test_set: Arrays) -> None:
    graph = qc.load(DEMO / "digits.onnx", input_shapes={"image": test_set["image"].shape})
    logits = qc.evaluate(graph, {"image": test_set["image"]})["logits"]
    assert float((logits.argmax(1) == test_set["labels"]).mean()) >= FLOAT_ACCURACY


@pytest.mark.slow
def test_the_demo_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = module("run")
    shutil.copytree(DEMO, tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "ROOT", tmp_path)

    def here(*arguments: str) -> None:
        assert cli.main(arguments) == 0, arguments

    monkeypatch.setattr(run, "qc", here)
    run.main()
    said = capsys.readouterr().out
    assert "fold-batchnorm" in said
    assert "500 test digits right" in said
    assert (tmp_path / "demo-out" / "digits" / "lib.so").is_file()
    real, int8 = run.result("float"), run.result("int8")
    assert real["value"] - int8["value"] <= 0.01
    assert set(run.result("bench")["peers"]) == {"onnxruntime-float", "onnxruntime-int8"}


def test_the_summary_shows_a_missing_peer_as_a_dash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = module("run")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    (tmp_path / run.REPORTS).mkdir()
    found = {
        "compile": {"ledger": [{"bytes": 4000}], "bytes": 1000},
        "float": {"value": 0.99, "samples": 500},
        "int8": {"value": 0.985, "samples": 500},
        "bench": {"threads": 1, "artifact_ms": 0.02, "peers": {"onnxruntime-float": 0.05}},
    }
    for name, data in found.items():
        (tmp_path / run.REPORTS / f"{name}.json").write_text(json.dumps(data))
    lines = [line.split() for line in run.summary().splitlines()]
    assert ["weights,", "kB", "4.0", "1.0"] in lines
    assert ["onnxruntime,", "us", "50.0", "-"] in lines


def test_a_failing_command_ends_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    run = module("run")
    failed = run.subprocess.CompletedProcess([], 2)
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit) as end:
        run.qc("compile", "no.onnx")
    assert end.value.code == 2
