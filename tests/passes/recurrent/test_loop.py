"""Long recurrent layers as loops: equal to the layer in the graph, in ONNX, in compiled code."""

from pathlib import Path

import numpy as np
import pytest
from recurrent_networks import HIDDEN, network, normal

from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.build import build
from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir import Graph, ops
from qc.ir.errors import BackendError
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify
from qc.passes import Context
from qc.passes.canonicalize import Canonicalize
from qc.passes.recurrent.loop import loop_recurrent
from qc.passes.recurrent.unroll import STEPS
from qc.targets import load

LONG = STEPS + 5
KINDS = [ops.RNN, ops.GRU, ops.LSTM]
FORMS = [
    (ops.GRU(HIDDEN, linear_before_reset=True), {}),
    (ops.LSTM(HIDDEN), {"peep": True}),
    (ops.LSTM(HIDDEN, input_forget=True), {"state": False, "bias": False}),
    (ops.RNN(HIDDEN, activations=("LeakyRelu",), activation_alpha=(0.3,)), {}),
    *((kind(HIDDEN, way), {}) for kind in KINDS for way in ("forward", "reverse", "bidirectional")),
]


def feed_of(graph: Graph) -> dict[str, np.ndarray]:
    return {v.name: normal(*v.shape) for v in graph.inputs}


def looped(graph: Graph) -> Graph:
    out = graph.copy()
    assert loop_recurrent(out) == 1
    out.prune()
    verify(out)
    assert {"Scan", "MatMul"} <= {n.op.name for n in out.nodes}
    return out


@pytest.mark.parametrize(("op", "more"), FORMS)
def test_a_loop_is_the_layer(op, more):
    graph = network(op, LONG, **more)
    out, feed = looped(graph), feed_of(graph)
    want, got = evaluate(graph, feed), evaluate(out, feed)
    assert list(got) == list(want)
    names = list(want)
    exported = OnnxRuntimeExecutor().open(out, names)(feed)
    for name in names:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(exported[name], want[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "graph",
    [
        network(ops.LSTM(HIDDEN, clip=1.0), LONG),
        network(ops.LSTM(HIDDEN), LONG, lengths=[1, 3]),
        network(ops.RNN(HIDDEN, activations=("ScaledTanh",)), LONG),
    ],
)
def test_others_stay_and_are_named(graph, tmp_path: Path):
    before = str(graph)
    assert loop_recurrent(graph) == 0
    assert str(graph) == before
    with pytest.raises(BackendError, match="cannot be compiled") as caught:
        build(graph, load("host"), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_canonicalize_makes_loops_of_long_layers():
    graph = network(ops.GRU(HIDDEN), LONG)
    counts = Canonicalize().apply(graph, Context())
    verify(graph)
    assert (counts["looped"], counts.get("unrolled", 0)) == (1, 0)
    assert "Scan" in {n.op.name for n in graph.nodes}


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_code_is_the_layer(kind, tmp_path: Path):
    graph = network(kind(HIDDEN, "bidirectional"), 40)
    small, feed = looped(graph), feed_of(graph)
    build(small, load("host"), tmp_path / "out")
    got, want = Artifact.load(tmp_path / "out").run(feed), evaluate(graph, feed)
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)
