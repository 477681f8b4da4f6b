"""Exported programs of trained networks: the same values as their ONNX files."""

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

import qc  # noqa: E402
from qc.ir.verify import verify  # noqa: E402

ZOO = Path(os.environ.get("QC_ZOO") or Path(__file__).parents[3] / "shared" / "zoo") / "models"
pytestmark = pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")


@pytest.mark.parametrize(
    ("program", "file", "name", "shape"),
    [
        ("vit_cifar10.pt2", "vit_cifar10.onnx", "image", (1, 3, 32, 32)),
        ("mamba_shakespeare.pt2", "mamba_shakespeare_plain.onnx", "tokens", (1, 128)),
    ],
)
def test_a_program_is_its_onnx_file(program, file, name, shape):
    rng = np.random.default_rng(0)
    graph = qc.load(ZOO / program)
    assert [v.name for v in graph.inputs] == [name]
    assert isinstance(graph.inputs[0].type.shape[0], str)
    graph = qc.load(graph, input_shapes={name: shape})
    verify(graph)
    other = qc.load(ZOO / file)
    key = other.inputs[0].name
    other = qc.load(other, input_shapes={key: shape})
    whole = other.inputs[0].type.dtype == "int64"
    x = rng.integers(0, 65, shape) if whole else rng.standard_normal(shape, np.float32)
    (got,) = qc.evaluate(graph, {name: x}).values()
    (want,) = qc.evaluate(other, {key: x}).values()
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    module = qc.to_torch(graph)
    again = module(torch.from_numpy(x)).detach().numpy()
    assert np.abs(again - want).max() <= 1e-5 * np.abs(want).max()
