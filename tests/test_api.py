"""The Python interface and the whole path from a file to running code."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Builder
from onnx import TensorProto, helper, numpy_helper

import qc
from qc import api
from qc.backends.qdq.writer import to_onnx
from qc.data.dataset import Dataset, specs_of
from qc.ir.errors import (
    ContractError,
    DataError,
    FrontendError,
    PreconditionError,
    QcError,
    TargetError,
)
from qc.ir.types import TensorType
from qc.loading import check_weights, load_concrete
from qc.models import open_artifact, open_reference
from qc.scoring import runs as scoring

from .small_model import write_model, write_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("api"), 16, 24)


@pytest.fixture(scope="module")
def out(place: Path) -> Path:
    job = api.Job(
        place / "m.onnx",
        calibration=place / "calib.npz",
        evaluation=place / "eval.npz",
        verify=True,
    )
    api.compile_to_directory(job, place / "out")
    return place / "out"


def test_artifact_holds_all_that_it_should(out: Path) -> None:
    names = {p.name for p in out.iterdir()}
    assert names == {
        "lib.so", "manifest.json", "model.qdq.onnx", "report.html", "report.json", "graph.txt",
        "graph.safetensors",
    }  # fmt: skip
    files = json.loads((out / "manifest.json").read_text())["files"]
    assert set(files) == names - {"manifest.json", "report.html", "report.json"}
    assert not list(out.parent.glob(".*"))


def test_report_follows_the_passes(out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    assert report["recipe"] == "int8"
    names = [r["pass"] for r in report["ledger"]]
    assert names[0] == "load"
    assert report["ledger"][0]["metric"] == 1.0
    assert report["evaluation"]["compiled"] >= 0.9
    assert report["calibration"]["samples"] == 16
    layers = {x["name"]: x for x in report["layers"]}
    assert layers["conv"]["precision"] == "int8"
    assert layers["conv"]["macs"] == 16 * 64 * 18
    assert layers["conv"]["sqnr_db"] > 20


def test_compiled_code_is_the_reference(out: Path, place: Path) -> None:
    compiled, reference = open_artifact(out), open_reference(out)
    difference = scoring.Difference()
    for feed in Dataset(place / "eval.npz", compiled.specs):
        difference.update(compiled.run(feed), reference.run(feed))
    assert difference.values == 24 * 4
    assert difference.passes(islands=False), str(difference)


def test_the_portable_export_compiles_to_the_same_code(out: Path, place: Path) -> None:
    """A quantized network keeps its codes, without calibration data and without being told so."""
    again = place / "again"
    api.compile_to_directory(api.Job(out / "model.qdq.onnx"), again)
    report = json.loads((again / "report.json").read_text())
    names = [row["pass"] for row in report["ledger"]]
    assert names == ["load", "canonicalize", "adopt-codes", "fold-integers"]
    assert [note[:32] for note in report["notes"]] == ["The network is quantized already"]
    data = np.load(place / "eval.npz")["x"]
    ours, theirs = (qc.Artifact.load(str(folder)) for folder in (out, again))
    for x in data[:4]:
        want, got = (one.run({"x": x[None]})["y"] for one in (ours, theirs))
        np.testing.assert_array_equal(got, want)


def test_inputs_without_axes_stay_arrays(tmp_path: Path) -> None:
    b = Builder((1, 4))
    factor = b.graph.input("factor", TensorType("float32", ()))
    b.done(b.op("Mul", b.linear(b.x, 3), factor))
    feeds = [{**feed, "factor": np.array(2.0, np.float32)} for feed in b.feeds(4)]
    onnx.save(to_onnx(b.graph), tmp_path / "m.onnx")
    report = api.compile_to_directory(
        api.Job(tmp_path / "m.onnx", calibration=feeds), tmp_path / "out"
    )
    assert report.check is not None
    assert report.check["samples"] == 1


def test_code_that_says_something_else_is_not_kept(
    out: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads((out / "report.json").read_text())["check"]["differing"] == 0

    def wrong(graph: qc.Graph, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: array + 1 for name, array in qc.evaluate(graph, feed).items()}

    monkeypatch.setattr("qc.compiler.evaluate", wrong)
    job = api.Job(place / "m.onnx", calibration=place / "calib.npz")
    with pytest.raises(ContractError, match="code generation for 'host': 4 of 4 values differ"):
        api.compile_to_directory(job, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_score_of_a_file_and_of_an_artifact(out: Path, place: Path) -> None:
    assert api.score(place / "m.onnx", place / "eval.npz").value == 1.0
    found = api.score(out, place / "eval.npz", "agreement", place / "m.onnx")
    assert (found.metric, found.samples) == ("agreement", 24)
    assert found.value >= 0.9
    assert api.score(out, place / "eval.npz", "mse", place / "m.onnx").value < 0.01
    with pytest.raises(DataError, match="--against"):
        api.score(out, place / "eval.npz", "mse")


def test_python_program_of_the_design(place: Path, tmp_path: Path) -> None:
    graph = qc.load(place / "m.onnx")
    x = np.random.default_rng(0).standard_normal((1, 2, 8, 8)).astype(np.float32)
    (y,) = qc.evaluate(graph, {"x": x}).values()
    artifact = qc.compile(graph, target="host", recipe="int8", calibration=[{"x": x}, {"x": x / 2}])
    artifact.save(tmp_path / "out")
    (z,) = qc.Artifact.load(tmp_path / "out").run({"x": x}).values()
    assert np.abs(y - z).max() < 0.05 * np.abs(y).max()


def test_folders_of_others_are_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(qc.QcError, match="no manifest"):
        api.compile_to_directory(api.Job(place / "m.onnx"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_without_a_linker_nothing_long_begins(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qc.backends.codegen.link.find_spec", lambda _: None)
    monkeypatch.setattr("qc.compiler.load_concrete", lambda *_: pytest.fail("began"))
    job = api.Job(place / "m.onnx", "arm")
    with pytest.raises(QcError, match=r"needs ziglang: `pip install qc-compiler\[arm\]`"):
        api.compile_to_directory(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": "hots"}, TargetError, "did you mean 'host'"),
        (
            {"target": "cuda", "tune": 1.0},
            TargetError,
            r"'cuda' cannot be timed here: .*; give --bundle",
        ),
        ({"recipe": "int9"}, PreconditionError, "did you mean 'int8'"),
        ({"recipe": "int8"}, DataError, "needs calibration data; give --calib"),
        ({"options": {"quantise.weight_bits": 4}}, PreconditionError, "did you mean 'quantize"),
        ({"options": {"quantize-dynamic.weight_bits": 9}}, PreconditionError, "from 2 to 8"),
        ({"keep_float": ["cnv*"]}, DataError, "'cnv[*]' matches no layer; did you mean 'conv'"),
        ({"max_drop": 1.0}, DataError, "give --eval"),
        ({"input_shapes": {"X": (1, 2, 8, 8)}}, FrontendError, "no input 'X'"),
        ({"input_shapes": {"x": (1, 2, 8, 9)}}, QcError, "x"),
        ({"calibration": []}, DataError, "calibration set is empty"),
        ({"model": "no.onnx"}, FrontendError, "does not exist"),
        ({"model": "no.pt2"}, FrontendError, "does not exist"),
        ({"model": "no.tflite"}, FrontendError, "no frontend reads"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    place: Path, tmp_path: Path, change: dict[str, object], error: type[Exception], message: str
) -> None:
    job = api.Job(**({"model": place / "m.onnx"} | change))  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        api.compile_to_directory(job, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_calibration_with_nan_names_the_sample(place: Path, tmp_path: Path) -> None:
    x = np.zeros((4, 2, 8, 8), np.float32)
    x[2, 0, 0, 0] = np.nan
    np.savez(tmp_path / "c.npz", x=x)
    with pytest.raises(DataError, match="input 'x', sample 2"):
        api.compile_to_directory(
            api.Job(place / "m.onnx", calibration=tmp_path / "c.npz"), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_interruption_leaves_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> Iterator[None]:
        raise KeyboardInterrupt

    monkeypatch.setattr("qc.compiler._write", stop)
    with pytest.raises(KeyboardInterrupt):
        api.compile_to_directory(
            api.Job(place / "m.onnx", calibration=place / "calib.npz"), tmp_path / "out"
        )
    assert list(tmp_path.iterdir()) == []


def test_symbolic_batch_is_one_unless_said_otherwise(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", batch="n")

    def shape(given: dict[str, tuple[int, ...]], data: dict[str, tuple[int, ...]]) -> object:
        return specs_of(load_concrete(model, given, lambda _: data))[0].shape

    assert shape({}, {}) == (1, 2, 8, 8)
    assert shape({}, {"x": (3, 2, 8, 8)}) == (3, 2, 8, 8)
    assert shape({"x": (2, 2, 8, 8)}, {}) == (2, 2, 8, 8)


def test_shapes_from_data_decide_what_a_file_leaves_open(tmp_path: Path) -> None:
    """A branch that depends on a shape has a type only once the data have shown the shape."""
    branches = {
        name: helper.make_graph(
            [helper.make_node(kind, ins, [f"{kind}_y"])], name, [],
            [helper.make_tensor_value_info(f"{kind}_y", TensorProto.FLOAT, None)],
        )
        for name, kind, ins in (
            ("then_branch", "Squeeze", ["x", "one"]), ("else_branch", "Relu", ["x"]),
        )
    }  # fmt: skip
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], start=1, end=2),
        helper.make_node("Equal", ["shape", "one"], ["c"]),
        helper.make_node("If", ["c"], ["y"], name="choice", **branches),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, "n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([1]), "one")],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), str(path))
    with pytest.raises(FrontendError, match="fix that with --input-shape"):
        qc.load(path)
    found = load_concrete(path, {}, lambda specs: {"x": (2, 1)})
    assert [n.op.name for n in found.nodes] == ["Squeeze"]
    found = load_concrete(path, {"x": (2, 5)}, lambda specs: {})
    assert [n.op.name for n in found.nodes] == ["Relu"]


def test_weights_that_are_not_finite_are_named(place: Path) -> None:
    graph = qc.load(place / "m.onnx")
    weight = next(v for v in graph.constants if v.data is not None and v.data.ndim == 4)
    assert weight.data is not None
    weight.data = weight.data.copy()
    weight.data[0, 0, 0, 0] = np.inf
    with pytest.raises(FrontendError, match=f"weight '{weight.name}'.*NaN or infinite"):
        check_weights(graph)


def test_difference_counts() -> None:
    found = scoring.Difference()
    a = np.array([1.0, 2.0, np.nan], np.float32)
    found.update({"y": a}, {"y": a.copy()})
    assert found.passes(islands=False)
    found.update({"y": a}, {"y": np.array([1.0, 2.5, np.nan], np.float32)})
    assert (found.values, found.differing, found.far) == (6, 1, 1)
    assert not found.passes(islands=True)
    with pytest.raises(DataError, match="differ in type"):
        found.update({"y": a}, {"y": a.astype(np.float64)})


@pytest.mark.parametrize(("gap", "fine"), [(0.0, True), (0.002, True), (0.05, False)])
def test_islands_may_move_a_step_but_not_the_outputs(gap: float, fine: bool) -> None:
    a = np.random.default_rng(0).normal(size=500).astype(np.float32)
    found = scoring.Difference()
    found.update({"y": a + np.float32(gap)}, {"y": a})
    assert found.passes(islands=True) == fine
    assert found.passes(islands=False) == (gap == 0)


def test_outputs_are_joined_by_the_rule() -> None:
    assert scoring.join([np.zeros((1, 4))] * 3, 1).shape == (3, 4)
    assert scoring.join([np.zeros((2, 1, 4))] * 3, 1).shape == (3, 2, 1, 4)
    assert scoring.join([np.zeros(())] * 3, 1).shape == (3,)
