"""``qc analyze``: layers by what their codes do to the outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Builder

from qc import api
from qc.backends.qdq.writer import to_onnx
from qc.cli import main
from qc.diagnosis.damage import Analysis, analyze
from qc.ir.errors import DataError, PreconditionError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers; one input of the first reaches forty times as far as the others."""
    folder = tmp_path_factory.mktemp("analyze")
    b = Builder((1, 24))
    y = b.op("Relu", b.op("Gemm", b.x, b.normal(24, 16), b.normal(16)))
    graph = b.done(b.op("Gemm", y, b.normal(16, 5), b.normal(5)))
    onnx.save(to_onnx(graph), folder / "m.onnx")
    x = np.random.default_rng(4).standard_normal((24, 24)).astype(np.float32)
    x[:, 7] *= 40
    np.savez(folder / "calib.npz", x=x)
    return folder


def analysis(place: Path, recipe: str, **options: object) -> Analysis:
    job = api.Job(place / "m.onnx", recipe=recipe, calibration=place / "calib.npz", options=options)
    return analyze(job)


def test_the_layer_with_few_bits_is_the_worst(place: Path) -> None:
    found = analysis(place, "w4a8", **{"equalize.solvers": "predicted"})
    first, last = found.layers
    assert first["share"] > last["share"]
    assert first["share"] + last["share"] == pytest.approx(1, abs=1e-3)
    assert {x["weight_bits"] for x in found.layers} == {4}
    by_input = {x["activation_bits"]: x for x in found.layers}
    assert by_input[None]["outliers"] > 15  # the network's input, whose 8 bits are fixed
    assert by_input[8]["outliers"] < 5
    assert by_input[8]["activations_db"] > 30
    assert all(x["precision"] == "int8" for x in found.layers)
    assert [s["solver"] for s in found.sites] == ["predicted"]


def test_more_bits_do_less(place: Path) -> None:
    coarse, fine = analysis(place, "w3"), analysis(place, "w8a8")
    assert fine.sqnr_db > coarse.sqnr_db + 10
    noise = [min(x["weights_db"] for x in one.layers) for one in (coarse, fine)]
    assert noise[1] > noise[0] + 20


def test_command(place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["analyze", str(place / "m.onnx"), "--calib", str(place / "calib.npz")]
    assert main([*words, "--json", str(tmp_path / "a.json")]) == 0
    out = capsys.readouterr().out
    assert "weights alone" in out
    assert "dB in int8; the worst layers first" in out
    data = json.loads((tmp_path / "a.json").read_text())
    assert data["recipe"] == "int8"
    assert len(data["layers"]) == 2
    assert main([*words, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == data


def test_what_cannot_be_analyzed(place: Path) -> None:
    with pytest.raises(PreconditionError, match="recipe 'int8-dynamic' does not quantize by"):
        analysis(place, "int8-dynamic")
    job = api.Job(place / "m.onnx", recipe="int8")
    with pytest.raises(DataError, match="needs calibration data"):
        analyze(job)
    with pytest.raises(DataError, match="--samples 0 is less than 1"):
        analyze(job, 0)
    assert main(["analyze", str(place / "m.onnx")]) == 2


def test_a_network_that_is_quantized_already(place: Path, tmp_path: Path) -> None:
    job = api.Job(place / "m.onnx", recipe="int8", calibration=place / "calib.npz")
    api.compile_to_directory(job, tmp_path / "out")
    coded = api.Job(tmp_path / "out" / "model.qdq.onnx", calibration=place / "calib.npz")
    with pytest.raises(PreconditionError, match="recipe 'quantized' does not quantize by"):
        analyze(coded)
