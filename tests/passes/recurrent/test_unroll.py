"""Short recurrent layers as products and activations; long ones stay."""

import numpy as np
import pytest
from recurrent_networks import HIDDEN, network, normal

from qc.ir import Graph, ops
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify
from qc.passes import Context
from qc.passes.canonicalize import Canonicalize
from qc.passes.recurrent.unroll import STEPS, unroll_recurrent


def same_after(graph: Graph) -> Graph:
    """The unrolled graph, which computes the same."""
    feed = {v.name: normal(*v.shape) for v in graph.inputs}
    unrolled = graph.copy()
    assert unroll_recurrent(unrolled) == 1
    unrolled.prune()
    verify(unrolled)
    assert not any(isinstance(n.op, ops.RNN | ops.GRU | ops.LSTM) for n in unrolled.nodes)
    want, got = evaluate(graph, feed), evaluate(unrolled, feed)
    assert list(got) == list(want)
    for name, array in want.items():
        assert got[name].shape == array.shape
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-6)
    return unrolled


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", [ops.RNN, ops.GRU, ops.LSTM])
def test_directions(kind, direction):
    same_after(network(kind(HIDDEN, direction)))


@pytest.mark.parametrize("kind", [ops.RNN, ops.GRU, ops.LSTM])
def test_one_step_without_states_and_bias(kind):
    same_after(network(kind(HIDDEN), 1, state=False, bias=False))


@pytest.mark.parametrize(
    ("op", "more"),
    [
        (ops.GRU(HIDDEN, linear_before_reset=True), {}),
        (ops.GRU(HIDDEN, linear_before_reset=True), {"bias": False}),
        (ops.LSTM(HIDDEN), {"peep": True}),
        (ops.LSTM(HIDDEN), {"lengths": [3, 3]}),
        (ops.LSTM(HIDDEN, input_forget=True), {}),
        (ops.LSTM(HIDDEN, input_forget=True), {"peep": True}),
        (ops.RNN(HIDDEN, activations=("LeakyRelu",), activation_alpha=(0.3,)), {}),
        (ops.GRU(HIDDEN, activations=("HardSigmoid", "Softsign")), {}),
        (ops.GRU(HIDDEN, "bidirectional", ("Sigmoid", "Tanh", "Sigmoid", "Relu")), {}),
    ],
)
def test_forms(op, more):
    same_after(network(op, **more))


def test_weights_in_another_order():
    """Exporters move gates by slices and concatenations of constants that others read too."""
    graph = network(ops.LSTM(HIDDEN))
    node = graph.nodes[0]
    w = node.inputs[1]
    halves = graph.add(ops.Split(1, (8, 8)), [w], before=node).outputs
    moved = graph.add(ops.Concat(1), [halves[1], halves[0]], before=node).output
    graph.set_inputs(node, [node.inputs[0], moved, *node.inputs[2:]])
    same_after(graph)


@pytest.mark.parametrize(
    "graph",
    [
        network(ops.LSTM(HIDDEN), STEPS + 1),
        network(ops.LSTM(HIDDEN, clip=1.0)),
        network(ops.LSTM(HIDDEN), lengths=[1, 3]),
        network(ops.RNN(HIDDEN, activations=("ScaledTanh",))),
    ],
)
def test_others_stay(graph):
    before = str(graph)
    assert unroll_recurrent(graph) == 0
    assert str(graph) == before


def test_canonicalize_unrolls():
    graph = network(ops.GRU(HIDDEN), 1)
    counts = Canonicalize().apply(graph, Context())
    verify(graph)
    assert counts["unrolled"] == 1
    assert {"MatMul", "Tanh"} <= {n.op.name for n in graph.nodes}
