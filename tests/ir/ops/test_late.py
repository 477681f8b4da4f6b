"""Attributes that are known only at run time: types, meaning, and the op once they are known."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from qc.frontends.from_onnx import load
from qc.ir import Graph, TensorType, ops, parse
from qc.ir.bind import bind
from qc.ir.builder import Builder
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
INT = TensorType("int64", (1,))


def late(op, names, types, shape=(2, 3, 4), extra=()):
    """A graph of one late op on ``x``; its further operands are inputs ``a0``, ``a1``, ..."""
    graph = Graph("late")
    ins = [graph.input("x", TensorType("float32", shape))]
    ins += [graph.constant(np.asarray(e), "k") for e in extra]
    ins += [graph.input(f"a{i}", t) for i, t in enumerate(types)]
    graph.outputs = list(graph.add(ops.Late(op, names), ins).outputs)
    verify(graph)
    return graph


@pytest.mark.parametrize(
    ("op", "names", "operand", "expected", "shape"),
    [
        (ops.ReduceSum(), ("axes",), [1], X.sum(1, keepdims=True), 3),
        (ops.ReduceMax(keepdims=False), ("axes",), [-1], X.max(-1), 2),
        (ops.Unsqueeze(), ("axes",), [1], X[:, None], 4),
        (ops.CumSum(), ("axis",), [2], X.cumsum(2), (2, 3, 4)),
        (ops.Trilu(), ("k",), [1], np.triu(X, 1), (2, 3, 4)),
    ],
)
def test_an_attribute_from_an_operand(op, names, operand, expected, shape):
    graph = late(op, names, [INT])
    dims = graph.outputs[0].type.shape
    assert dims == shape if isinstance(shape, tuple) else len(dims) == shape
    found = evaluate(graph, {"x": X, "a0": np.array(operand, np.int64)})
    np.testing.assert_array_equal(found[graph.outputs[0].name], expected)


def test_top_k_of_a_run_time_k():
    graph = late(ops.TopK(), ("k",), [INT])
    values, places = graph.outputs
    assert values.type.shape[:2] == places.type.shape[:2] == (2, 3)
    assert isinstance(values.type.shape[2], str)
    found = evaluate(graph, {"x": X, "a0": np.array([2], np.int64)})
    assert found[values.name].shape == (2, 3, 2)
    assert found[places.name].dtype == np.int64


def test_split_has_a_result_per_size():
    graph = late(ops.Split(2), ("sizes",), [TensorType("int64", (2,))])
    assert [v.type.shape[:2] for v in graph.outputs] == [(2, 3)] * 2
    a, b = evaluate(graph, {"x": X, "a0": np.array([1, 3], np.int64)}).values()
    np.testing.assert_array_equal(np.concatenate([a, b], 2), X)


def test_squeeze_of_a_run_time_axis():
    graph = late(ops.Squeeze(), ("axes",), [INT], (2, 1, 4))
    assert graph.outputs[0].type.rank == 2
    (found,) = evaluate(graph, {"x": X[:, :1], "a0": np.array([1], np.int64)}).values()
    assert found.shape == (2, 4)


def test_axes_without_elements_mean_all_axes_or_none():
    axes = TensorType("int64", ("n",))
    feed = {"x": X, "a0": np.zeros(0, np.int64)}
    graph = late(ops.ReduceSum(), ("axes",), [axes])
    assert evaluate(graph, feed)[graph.outputs[0].name].item() == X.sum()
    node = graph.nodes[0]
    node.op = ops.Late(node.op.op, node.op.names, keep_if_empty=True)
    np.testing.assert_array_equal(evaluate(graph, feed)[graph.outputs[0].name], X)


def test_a_rank_that_nobody_knows_is_an_error():
    with pytest.raises(Exception, match="rank of the result"):
        late(ops.ReduceSum(keepdims=False), ("axes",), [TensorType("int64", ("n",))])


def test_a_known_operand_becomes_the_attribute():
    graph = Graph("g")
    builder = Builder(graph)
    x = graph.input("x", TensorType("float32", (2, 3, 4)))
    axes, k = graph.constant(np.array([1]), "axes"), graph.input("k", INT)
    (y,) = builder.emit(ops.Late(ops.ReduceSum(), ("axes",)), [x, axes])
    assert (y.producer.op, y.producer.inputs) == (ops.ReduceSum((1,)), (x,))
    empty = graph.input("none", TensorType("int64", (0,)))
    (z,) = builder.emit(ops.Late(ops.ReduceSum(), ("axes",), True), [x, empty])
    assert z.producer.op == ops.Identity()
    values, _ = builder.emit(ops.Late(ops.TopK(largest=False), ("axis", "k")), [x, axes, k])
    assert values.producer.op == ops.Late(ops.TopK(axis=1, largest=False), ("k",))


def test_the_text_form_round_trips():
    graph = late(ops.Pad(None, "edge"), ("value",), [TensorType("float32", ())],
                 extra=([0, 1, 0, 0, 0, 0],))  # fmt: skip
    assert str(parse(str(graph))) == str(graph)


@pytest.mark.parametrize(("dims", "fixed"), [([2], True), (["n"], False)])
def test_the_reader_leaves_late_only_what_is_late(dims, fixed):
    """Axes from a computation are late until shapes are bound."""
    nodes = [
        helper.make_node("Shape", ["z"], ["s"]),
        helper.make_node("Sub", ["s", "one"], ["a"]),
        helper.make_node("ReduceSum", ["x", "a"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4]),
         helper.make_tensor_value_info("z", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([1]), "one")],
    )  # fmt: skip
    loaded = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    assert isinstance(loaded.nodes[-1].op, ops.ReduceSum) == fixed
    bound = bind(loaded, {} if fixed else {"n": 2})
    verify(bound)
    assert bound.nodes[-1].op == ops.ReduceSum((1,), False)
    feed = {"x": X, "z": np.zeros(2, np.float32)}
    np.testing.assert_array_equal(evaluate(bound, feed)["y"], X.sum(1))
