"""Infinities, NaN, wide integers and float64 through compiled code: the values of the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.build import build
from qc.backends.codegen.cuda import nvcc
from qc.ir import Graph, Value, ops
from qc.ir.errors import BackendError
from qc.ir.evaluate import evaluate
from qc.ir.types import TensorType, type_of
from qc.targets import load

INF, NAN = np.inf, np.nan
REALS = np.array([[0.0, -INF, 3.0, NAN], [-INF, -INF, -INF, -INF], [INF, 2.5, -1.0, -3.0]], "f4")
REST = np.array([[2.0, 3.0, INF, 1.0], [2.0, 2.0, 2.0, 2.0], [3.0, -2.0, INF, -2.0]], "f4")
COUNTS = np.array([[3, 2, 7, -5]], np.int32)
WIDE = np.array([[1.5, -700.0, 1e-200, 3.0]], np.float64)


def network() -> tuple[Graph, dict[str, np.ndarray]]:
    feed = {"reals": REALS, "rest": REST, "counts": COUNTS, "wide": WIDE}
    graph = Graph()
    x, y, n, d = (graph.input(name, type_of(a)) for name, a in feed.items())

    def add(op: ops.Op, *ins: Value) -> Value:
        return graph.add(op, ins).output

    finite = add(ops.Where(), add(ops.IsNaN(), x), y, x)
    image = add(ops.Reshape((1, 1, 3, 4)), finite)
    power = graph.constant(np.array([12, 30, 9, 7], np.int32))
    graph.outputs = [
        add(ops.IsNaN(), x),
        add(ops.ReduceMax((1,)), finite),
        add(ops.ReduceMin((0,)), add(ops.Neg(), finite)),
        add(ops.MaxPool((2, 2)), image),
        add(ops.GlobalMaxPool(), add(ops.Slice((1,), (2,), (2,), (1,)), image)),
        add(ops.Mod(), add(ops.Clip(-9.0, 9.0), finite), y),
        add(ops.Mod(fmod=True), add(ops.Clip(-9.0, 9.0), finite), y),
        add(ops.Pow(), n, power),
        add(ops.Exp(), d),
        add(ops.Log(), add(ops.Abs(), d)),
        add(ops.ReduceSum((1,)), d),
    ]
    return graph, feed


@pytest.mark.parametrize("target", ["host", "cuda"])
def test_the_values_of_the_reference(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvcc, "nvcc", lambda: None)
    graph, feed = network()
    build(graph, load(target), tmp_path / "out")
    got, want = Artifact.load(tmp_path / "out").run(feed), evaluate(graph, feed)
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("op", "dtype", "message"),
    [
        (ops.Tanh(), "float64", "Tanh of float64 (%x) cannot be compiled, only of float32"),
        (ops.Exp(), "float16", "Exp of float16 (%x) cannot be compiled, only of float32"),
        (ops.Identity(), "bfloat16", "input 'x' of bfloat16 (%x) cannot be compiled"),
    ],
)
def test_types_without_kernels_are_refused(
    op: ops.Op, dtype: str, message: str, tmp_path: Path
) -> None:
    graph = Graph()
    graph.outputs = [graph.add(op, [graph.input("x", TensorType(dtype, (3,)))]).output]
    with pytest.raises(BackendError) as caught:
        build(graph, load("host"), tmp_path / "out")
    assert message in str(caught.value)
