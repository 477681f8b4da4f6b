"""The product with a Hadamard matrix: what it means, what passes it, where it cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import Builder

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir import Graph, TensorType, evaluate, ops
from qc.ir.coupling import Action, Coupling, Sites
from qc.ir.errors import VerifyError
from qc.ir.hadamard import hadamard
from qc.ir.text import load, save


def network(width: int = 24, dtype: str = "float32") -> Graph:
    """A layer, the product, a layer."""
    b = Builder((2, 5, 3), dtype=dtype)
    y = b.op("Hadamard", b.op("MatMul", b.x, b.normal(3, width)), names=("mixed",))
    return b.done(b.op("MatMul", y, b.normal(width, 4)))


@pytest.mark.parametrize("size", [1, 2, 12, 24, 64, 192])
def test_it_is_the_matrix_over_the_root_of_its_order(size: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, size))
    (y,) = ops.Hadamard().eval([x])
    assert np.allclose(y, x @ hadamard(size) / np.sqrt(size), rtol=0, atol=1e-14)
    assert np.allclose(np.linalg.norm(y, axis=1), np.linalg.norm(x, axis=1), rtol=1e-14)


@pytest.mark.parametrize(
    "typed",
    [TensorType("float32", (2, 6)), TensorType("float32", ()), TensorType("int64", (2, 8)),
     TensorType("float32", (8, "n"))],
)  # fmt: skip
def test_other_sizes_and_types_are_refused(typed: TensorType) -> None:
    graph = Graph()
    x = graph.input("x", typed)
    with pytest.raises(VerifyError, match="no last axis with a Hadamard matrix"):
        graph.add(ops.Hadamard(), [x])


def test_the_text_reads_back(tmp_path: Path) -> None:
    graph = network()
    assert "%mixed: float32[2,5,24] = Hadamard(%matmul)" in str(graph)
    save(graph, tmp_path)
    assert load(tmp_path) == graph


def test_its_channels_stay_and_would_be_wrong_otherwise() -> None:
    graph = network(dtype="float64")
    y = graph["mixed"]
    for action in (Action.SCALE, Action.SHIFT, Action.ROTATE):
        sites = Sites(graph, action)
        (channels,) = sites.channels(y, 2)
        held = [s for s in sites.groups if np.isin(channels, s.channels).any()]
        assert {s.why for s in held} == {"mixed by a Hadamard matrix"}
    groups = [g for g in Coupling(graph).groups if any(p.value is y for p in g.places)]
    assert "mixed by a Hadamard matrix" in {g.pinned for g in groups}
    x = np.random.default_rng(0).standard_normal((4, 24))
    order = np.random.default_rng(1).permutation(24)
    (mixed,), (moved,) = ops.Hadamard().eval([x]), ops.Hadamard().eval([x[:, order]])
    assert np.abs(moved - mixed[:, order]).max() > 0.1


def test_the_export_says_the_same() -> None:
    graph = network()
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    want = evaluate(graph, {"x": x}, ["mixed"])["mixed"]
    got = OnnxRuntimeExecutor().open(graph, ["mixed"])({"x": x})["mixed"]
    assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()
