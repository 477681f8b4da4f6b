"""``--max-drop``: the compiler keeps an accuracy by itself, proves it, or says that it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Builder

from qc import api
from qc.backends.qdq.writer import to_onnx
from qc.compiler import with_allocation
from qc.console import commands
from qc.ir import evaluate
from qc.ir.ops.nn import Conv
from qc.passes.recipe import load_recipe
from qc.reporting.report import Report

COARSE = {"quantize.weight-bits": 2, "quantize.activation-bits": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier whose labels are what it says itself; close to chance with 2 bits."""
    folder = tmp_path_factory.mktemp("drop")
    b = Builder((1, 2, 6, 6))
    hidden = b.graph.add(Conv(pads=(1, 1, 1, 1)), [b.x, b.normal(8, 2, 3, 3)], names=["conv"])
    y = b.linear(b.op("Flatten", b.op("Relu", hidden.output), axis=1), 12)
    graph = b.done(b.op("Identity", y, names=("fc",)))
    onnx.save(to_onnx(graph), folder / "m.onnx")
    x = np.concatenate([feed["x"] for feed in b.feeds(60)])
    labels = [int(evaluate(graph, {"x": row[None]})["fc"].argmax()) for row in x]
    np.savez(folder / "calib.npz", x=x[:20])
    np.savez(folder / "eval.npz", x=x[20:], labels=np.array(labels[20:]))
    return folder


def compiled(place: Path, max_drop: float, **job: object) -> Report:
    job = {"recipe": "w4a4", "options": COARSE, **job}
    made = api.Job(
        place / "m.onnx", calibration=place / "calib.npz", evaluation=place / "eval.npz",
        max_drop=max_drop, **job,
    )  # fmt: skip
    return api.compile_to_directory(made, place / "out")


def allocation(report: Report) -> dict[str, object]:
    (row,) = [r for r in report.ledger if r["pass"] == "allocate-bits"]
    assert isinstance(row["statistics"], dict)
    return row["statistics"]


def test_bits_are_raised_until_the_compiled_code_keeps_the_accuracy(place: Path) -> None:
    plain = compiled(place, 100.0)
    assert plain.evaluation is not None
    assert plain.evaluation["drop"] > 5.0
    report = compiled(place, 5.0)
    facts = allocation(report)
    assert report.evaluation is not None
    assert report.evaluation["drop"] <= 5.0
    assert facts["accuracy"] == "kept"
    assert 4.0 < facts["weights_bits"] + facts["activations_bits"] < 16.0
    (note,) = [n for n in report.notes if "Tried:" in n]
    assert note.startswith("The accuracy is kept (a drop of ")
    assert str(facts["tried"]) in note
    assert commands._judged(report) == 0
    layers = {x["name"]: x for x in report.layers}
    assert layers["conv"]["activation_bits"] == 8
    assert commands._bits(layers["conv"]) == f"w{layers['conv']['weight_bits']} a8"
    assert f" w{layers['conv']['weight_bits']} a8</td>" in report.html()


def test_what_cannot_be_kept_is_exit_code_1_with_the_best_there_is(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = compiled(place, -1.0)
    assert allocation(report)["accuracy"] == "not kept"
    assert report.evaluation is not None
    assert report.evaluation["drop"] == 0.0
    assert commands._judged(report) == 1
    assert "more than --max-drop -1" in capsys.readouterr().err


def test_recipes_without_the_pass_get_it_in_front_of_quantize() -> None:
    names = [p.name for p in with_allocation(load_recipe("int8").passes)]
    assert names[-3:] == ["allocate-bits", "quantize", "fold-integers"]
    for name in ("w4a4", "int8-dynamic", "float", "bfp"):
        passes = load_recipe(name).passes
        assert with_allocation(passes) == passes
