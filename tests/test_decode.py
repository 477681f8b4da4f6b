"""Decoders from the command line and from Python: compile, generate, run, and bad input."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from decoders import WORDS, Shape, decoder, tokens_of

import qc as library
from qc import cli
from qc.backends.qdq.writer import to_onnx
from qc.ir import Graph, ops
from qc.ir.errors import PreconditionError, VerifyError
from qc.ir.verify import verify

from .small_model import write_data, write_model
from .test_cli import qc

SHAPE = Shape(length=12, layers=1)


def write(path: Path, shape: Shape) -> Path:
    onnx.save(to_onnx(decoder(shape)), str(path))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decode")
    write(folder / "m.onnx", SHAPE)
    data = np.concatenate([tokens_of(SHAPE, seed) for seed in range(8)])
    np.savez(folder / "calib.npz", x=data)
    np.savez(folder / "prompt.npz", x=data[:1, :3])
    return folder


@pytest.fixture
def refused(monkeypatch, capsys):
    """What the command line says to words that are wrong, in this process: it has TVM already."""

    def lines(*words, cwd):
        monkeypatch.chdir(cwd)
        assert cli.main([str(word) for word in words]) == 2
        return capsys.readouterr().err.splitlines()

    return lines


@pytest.fixture(scope="module")
def compiled(place):
    return qc(
        "compile", "m.onnx", "-o", "out", "--calib", "calib.npz", "--capacity", 20, "--json",
        "c.json", cwd=place,
    )  # fmt: skip


def test_compile(compiled, place):
    assert compiled.returncode == 0, compiled.stderr
    assert "note: A decoder for up to 20 tokens: 2 states, prompts 16 tokens" in compiled.stdout
    manifest = json.loads((place / "out" / "manifest.json").read_text())
    assert manifest["decoder"]["capacity"] == 20
    assert manifest["inputs"] == [{"name": "x", "dtype": "int64", "shape": [1, 12]}]
    types = {p["dtype"] for p in manifest["decoder"]["step"]["inputs"][2:]}
    assert types == {"uint8"}, "keys and values are kept as codes"


def test_whole_sequences_run_and_equal_the_reference(compiled, place):
    done = qc("run", "out", "--inputs", "calib.npz", "--reference", "-o", "r.npz", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(place / "r.npz") as found:
        assert found["logits"].shape == (8, 12, WORDS)
    done = qc("eval", "out", "--data", "calib.npz", "--metric", "agreement", "--against", "m.onnx",
              "--json", "-", cwd=place)  # fmt: skip
    assert json.loads(done.stdout)["value"] > 0.5


def test_generate(compiled, place):
    done = qc("generate", "out", "--prompt", "3,1,4", "--count", 10, "-o", "g.npz", "--json",
              "g.json", cwd=place)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "10 tokens after 3 in" in done.stdout
    artifact = library.Artifact.load(place / "out")
    want = artifact.decoder().generate(np.array([[3, 1, 4]]), 10)
    assert done.stdout.splitlines()[0] == " ".join(map(str, want[0]))
    assert json.loads((place / "g.json").read_text())["tokens"] == want.tolist()
    with np.load(place / "g.npz") as found:
        assert np.array_equal(found["tokens"], want)


def test_generate_fills_the_capacity(compiled, place):
    done = qc("generate", "out", "--prompt", "prompt.npz", "--json", "-", cwd=place)
    assert len(json.loads(done.stdout)["tokens"][0]) == 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "a,b"], "--prompt 'a,b' is neither 1,403,407 nor an .npz file"),
        (["--prompt", ",".join("1" * 21)], "the prompt of 21 tokens exceeds the capacity 20"),
        (["--prompt", "1,2", "--count", "20"], "21 tokens exceed the capacity of 20"),
        (["--prompt", "1", "--count", "0"], "--count 0 must be at least 1"),
        (["--prompt", "no.npz"], "data file 'no.npz' does not exist"),
    ],
)
def test_bad_prompts(compiled, place, refused, arguments, message):
    (error,) = refused("generate", "out", *arguments, cwd=place)
    assert message in error


@pytest.mark.parametrize(
    ("shape", "capacity", "message"),
    [
        (Shape(length=12, mask="none"), 12, "no mask hides later positions from this softmax"),
        (Shape(length=12, rotary=None), 13, "give a capacity of at most 12"),
        (SHAPE, 0, "a capacity of 0 tokens: it must be at least 1"),
    ],
)
def test_networks_that_are_no_decoders(tmp_path, refused, shape, capacity, message):
    write(tmp_path / "m.onnx", shape)
    words = ["compile", "m.onnx", "-o", "out", "--capacity", capacity]
    *progress, error = refused(*words, cwd=tmp_path)
    assert message in error
    assert all(line.endswith("...") for line in progress)
    assert not (tmp_path / "out").exists()


def test_formats_without_kernels_make_no_decoder(tmp_path, refused):
    write(tmp_path / "m.onnx", SHAPE)
    words = ["--recipe", "bfp", "--set", "encode.activations=", "--capacity", 12]
    *_, error = refused("compile", "m.onnx", "-o", "out", *words, cwd=tmp_path)
    assert "has no kernel yet; take a recipe of integers" in error


def test_a_network_of_images(tmp_path):
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "calib.npz", 4)
    with pytest.raises(PreconditionError, match=r"one input, tokens .* not %x: float32\[1,2,8,8\]"):
        library.compile(str(tmp_path / "m.onnx"), capacity=8)


def test_a_state_that_changes_shape():
    graph = Graph("g")
    past = graph.input("past", graph.constant(np.zeros((1, 3, 4), np.float32)).type)
    new = graph.input("new", graph.constant(np.zeros((1, 1, 4), np.float32)).type)
    graph.outputs = [graph.add(ops.Concat(1), [past, new], names=["present"]).output]
    graph.prune()
    graph.states = [("past", "present")]
    with pytest.raises(VerifyError) as caught:
        verify(graph)
    assert str(caught.value) == (
        "state 'past' -> 'present' changes its type: float32[1,3,4] before a step, "
        "float32[1,4,4] after it; a state has room for all steps from the beginning"
    )
