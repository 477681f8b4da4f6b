"""``qc diff``: where an artifact departs from its model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Builder

from qc import api
from qc.backends.qdq.writer import to_onnx
from qc.cli import main
from qc.diagnosis.alignment import EQUAL, MIXED, SAME, SCALED
from qc.diagnosis.departures import Departures, departures
from qc.ir.errors import QcError

BROKEN = "broken.onnx"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three convolutions and a head; in ``broken.onnx`` the second one has other weights."""
    folder = tmp_path_factory.mktemp("diff")
    b = Builder((1, 3, 12, 12))
    y = b.x
    for i, channels in enumerate((8, 8, 12)):
        made = b.op("Conv", y, b.normal(channels, y.shape[1], 3, 3), b.normal(channels))
        y = b.op("Relu", made)
        if i == 1:
            second = made
    graph = b.done(b.op("Gemm", b.op("Flatten", y), b.normal(12 * 6 * 6, 5), b.normal(5)))
    onnx.save(to_onnx(graph), folder / "m.onnx")
    weights = second.producer.operands[1]
    weights.data = weights.data + RNG.normal(0, 0.3, weights.shape).astype(np.float32)
    onnx.save(to_onnx(graph), folder / BROKEN)
    x = RNG.standard_normal((16, 3, 12, 12)).astype(np.float32)
    x[:, 1] *= 6
    np.savez(folder / "calib.npz", x=x)
    return folder


RNG = np.random.default_rng(5)


def compiled(place: Path, recipe: str, tmp_path: Path, model: str = "m.onnx") -> Path:
    out = tmp_path / recipe
    job = api.Job(place / model, recipe=recipe, calibration=place / "calib.npz")
    api.compile_to_directory(job, out)
    return out


def found(place: Path, out: Path, **options: int) -> Departures:
    return departures(place / "m.onnx", out, place / "calib.npz", **options)


@pytest.fixture(scope="module")
def exact(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(place, "float", tmp_path_factory.mktemp("exact"))


def test_a_float_network_departs_nowhere(place: Path, exact: Path) -> None:
    result = found(place, exact, samples=2)
    assert result.unmatched == 0
    assert all(x.compared == EQUAL or x.sqnr_db > 100 for x in result.layers)
    assert sum(x.macs > 0 for x in result.layers) == 4


def test_layers_of_an_integer_network(place: Path, tmp_path: Path) -> None:
    result = found(place, compiled(place, "int8", tmp_path), samples=4)
    layers = [x for x in result.layers if x.macs]
    assert [x.op for x in layers] == ["QConv", "QConv", "QConv", "QMatMul"]
    assert all(20 < x.sqnr_db < 60 for x in layers)
    assert {x.compared for x in layers} == {SAME, SCALED}
    assert layers[-1].compared == SAME  # the output
    assert layers[-1].sqnr_db == next(iter(result.outputs.values()))
    assert layers[0].value.startswith("relu")  # with which it was fused
    assert layers[1].lost_db == pytest.approx(layers[0].sqnr_db - layers[1].sqnr_db, abs=0.02)


def test_the_layer_that_is_wrong_is_named(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = compiled(place, "int8", tmp_path, BROKEN)
    file = tmp_path / "diff.json"
    command = ["diff", str(place / "m.onnx"), str(out), "--data", str(place / "calib.npz")]
    assert main([*command, "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    facts = json.loads(file.read_text())
    assert facts["samples"] == 8
    worst = max(facts["layers"], key=lambda x: x["added"])
    assert worst["lost_db"] > 20
    assert worst["name"] == [x["name"] for x in facts["layers"] if x["macs"]][1]
    assert f"most noise is added at: {worst['name']}" in printed


def test_a_pruned_network(place: Path, tmp_path: Path) -> None:
    """What is left of the channels tells part of what they all were."""
    result = found(place, compiled(place, "prune-int8", tmp_path), samples=16)
    layers = [x for x in result.layers if x.macs]
    assert {x.compared for x in layers[:3]} <= {MIXED, SCALED, SAME}
    assert any(x.compared == MIXED for x in layers)
    assert all(x.sqnr_db is not None for x in layers)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "other.onnx"}, "input"),
        ({"samples": 0}, "--samples 0 is less than 1"),
        ({"report": ""}, "report.json cannot be read"),
        ({"artifact": "."}, "has no manifest.json"),
    ],
)
def test_bad_input_is_one_line(
    place: Path, exact: Path, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    b = Builder((1, 4))
    onnx.save(to_onnx(b.done(b.op("Relu", b.x))), place / "other.onnx")
    if "report" in change:
        exact = Path(shutil.copytree(exact, tmp_path / "copy"))
        (exact / "report.json").write_text("{}")
    with pytest.raises(QcError, match=said) as error:
        departures(
            place / str(change.get("model", "m.onnx")),
            place if "artifact" in change else exact,
            place / "calib.npz",
            int(str(change.get("samples", 2))),
        )
    assert "\n" not in str(error.value)
