"""The ONNX writer and the onnxruntime executor."""

import numpy as np
import onnx
import onnxruntime
import pytest

from qc.backends.qdq import executor, writer
from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.backends.qdq.unsigned import unsigned_weights
from qc.backends.qdq.writer import parted, to_onnx
from qc.frontends.from_onnx import load
from qc.ir import ops
from qc.ir.errors import BackendError
from qc.ir.evaluate import evaluate
from qc.ir.graph import Graph, Origin
from qc.ir.types import TensorType

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 3, 6, 6)).astype(np.float32)


def network(*chain) -> Graph:
    """``x`` through a chain of ops."""
    graph = Graph("net")
    value = graph.input("x", TensorType("float32", X.shape))
    for i, op in enumerate(chain):
        value = graph.add(op, [value], names=[f"v{i}"], origin=Origin(f"n{i}")).output
    graph.outputs = [value]
    return graph


def test_round_trip_is_the_same_graph():
    graph = network(ops.Relu(), ops.MaxPool((2, 2), (2, 2)), ops.Reshape((0, -1)), ops.Softmax(1))
    w = graph.constant(RNG.normal(size=(5, 27)).astype(np.float32), "w")
    last = graph.add(
        ops.Gemm(trans_b=True), [graph.outputs[0], w], names=["y"], origin=Origin("fc")
    )
    graph.outputs = [last.output]
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    again = load(model)
    assert str(again) == str(graph)


def test_names_types_and_symbols_are_kept():
    graph = Graph()
    x = graph.input("in put", TensorType("float16", ("batch", 3)))
    graph.outputs = [graph.add(ops.Cast("float32"), [x], names=["out"]).output]
    model = to_onnx(graph)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert model.graph.input[0].name == "in put"
    assert dims[0].dim_param == "batch"
    assert model.graph.output[0].name == "out"


def test_extra_outputs_come_after_the_own():
    graph = network(ops.Relu(), ops.Neg(), ops.Exp())
    assert [o.name for o in to_onnx(graph, ["v1", "v2", "v0"]).graph.output] == ["v2", "v1", "v0"]
    with pytest.raises(BackendError, match="no value 'v9'; did you mean"):
        to_onnx(graph, ["v9"])


def test_the_executor_returns_any_value():
    graph = network(ops.Relu(), ops.Neg())
    w = graph.constant(np.float32([1, 2]), "w")
    got = OnnxRuntimeExecutor().open(graph, ["v0", "w", "x", "v1"])({"x": X})
    assert list(got) == ["v0", "w", "x", "v1"]
    assert got["w"] is w.data
    assert got["x"] is X
    assert (got["v0"] == np.maximum(X, 0)).all()
    assert (got["v1"] == -got["v0"]).all()


def test_one_source_node_may_be_several_nodes():
    graph = Graph()
    x = graph.input("x", TensorType("float32", (2,)))
    a = graph.add(ops.Silu(), [x], names=["a"], origin=Origin("same")).output
    b = graph.add(ops.Silu(), [a], names=["a.sigmoid"], origin=Origin("same")).output
    graph.outputs = [b]
    got = OnnxRuntimeExecutor().open(graph)({"x": np.float32([1, -1])})
    np.testing.assert_allclose(
        got[b.name], evaluate(graph, {"x": np.float32([1, -1])})[b.name], 1e-6
    )


GRIDS = [
    ops.Quantize((0.02,), (128,)),
    ops.Quantize((0.05,), (-3,), None, "int8"),
    ops.Quantize((0.05,), (0,), None, "int8", -127, 127),
    ops.Quantize((0.3,), (1,), None, "int8", -8, 7),
    ops.Quantize((0.0001,), (30000,), None, "uint16"),
    ops.Quantize((0.0001,), (-5,), None, "int16"),
    ops.Quantize((0.02, 0.5, 0.1), (128, 3, 255), 1),
    ops.Quantize((0.02, 0.5, 0.1), (0, 0, 0), 1, "int8", -7, 7),
    ops.Quantize((1e-6,), (7,), None, "int32"),
]


def extreme_layer() -> Graph:
    """A quantized convolution whose products of pairs exceed 16 bits."""
    graph = Graph("extreme")
    x = graph.input("x", TensorType("float32", (1, 16, 6, 6)))
    codes = graph.add(ops.Quantize((0.01,), (0,)), [x], names=["x.q"])
    real = graph.add(ops.Dequantize((0.01,), (0,)), [codes.output], names=["x.d"])
    w = RNG.choice([-127, -120, 120, 127], (8, 16, 3, 3)).astype(np.int8)
    scales = tuple(float(np.float32(s)) for s in RNG.uniform(0.01, 0.02, 8))
    q = graph.constant(w, "w.q")
    wide = graph.add(ops.Dequantize(scales, (0,) * 8, 0), [q], names=["w.d"])
    conv = graph.add(ops.Conv(pads=(1, 1, 1, 1)), [real.output, wide.output], names=["sum"])
    last = graph.add(ops.Quantize((0.5,), (128,)), [conv.output], names=["y.q"])
    graph.outputs = [graph.add(ops.Dequantize((0.5,), (128,)), [last.output], names=["y"]).output]
    return graph


def test_unsigned_weights_are_the_same_numbers_under_the_same_names():
    graph = extreme_layer()
    moved = unsigned_weights(graph)
    assert {v.name for v in moved.values} == {v.name for v in graph.values}
    assert moved["w.q"].type.dtype == "uint8"
    assert graph["w.q"].type.dtype == "int8", "the graph itself stays"
    feed = {"x": RNG.uniform(0, 2.55, (1, 16, 6, 6)).astype(np.float32)}
    for name in ("w.d", "y"):
        np.testing.assert_array_equal(
            evaluate(moved, feed, [name])[name], evaluate(graph, feed, [name])[name]
        )


def test_optimized_export_does_not_saturate():
    """With int8 weights it would on a cpu that has AVX2 but not VNNI."""
    graph = extreme_layer()
    session = onnxruntime.InferenceSession(to_onnx(unsigned_weights(graph)).SerializeToString())
    feed = {"x": RNG.uniform(2, 2.55, (1, 16, 6, 6)).astype(np.float32)}
    y = session.run(None, feed)[0]
    assert np.abs(y - evaluate(graph, feed)["y"]).max() <= 0.5, "one step of the output"


@pytest.mark.parametrize("op", GRIDS, ids=lambda op: f"{op.dtype}-{op.axis}-{op.low}")
def test_quantize_and_back(op):
    graph = network(op, ops.Dequantize(op.scale, op.zero_point, op.axis))
    ours = evaluate(graph, {"x": X}, ["v0", "v1"])
    theirs = OnnxRuntimeExecutor().open(graph, ["v0", "v1"])({"x": X})
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        assert (array == theirs[name]).all()
    low, high = op.bounds
    assert ours["v0"].min() >= low
    assert ours["v0"].max() <= high


def test_a_narrow_range_is_reached():
    op = ops.Quantize((0.1,), (0,), None, "int8", -7, 7)
    codes = OnnxRuntimeExecutor().open(network(op))({"x": X})["v0"]
    assert set(np.unique(codes)) == set(range(-7, 8))


def test_quantized_graph_round_trips():
    graph = network(
        ops.Quantize((0.5, 1.0, 2.0), (1, 2, 3), 1), ops.Dequantize((0.5, 1.0, 2.0), (1, 2, 3), 1)
    )
    assert str(load(to_onnx(graph))) == str(graph)


def test_quantized_pooling_opens_with_all_optimizations():
    codes = [ops.Quantize((0.02,), (128,)), ops.Dequantize((0.02,), (128,))]
    graph = network(*codes, ops.AveragePool((3, 3), (2, 2), (1, 1, 1, 1)), *codes)
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString())
    (got,) = session.run(None, {"x": X})
    assert np.abs(got - evaluate(graph, {"x": X})[graph.outputs[0].name]).max() <= 0.0201


def test_dequantized_weights():
    graph = network()
    q = graph.constant(RNG.integers(-128, 127, (3, 2)).astype(np.int8), "q")
    half = graph.add(ops.Dequantize((0.5, 0.1, 0.2), (0, 0, 0), 0, "float16"), [q]).output
    graph.outputs = [graph.add(ops.Cast("float32"), [half]).output]
    name = graph.outputs[0].name
    got = OnnxRuntimeExecutor().open(graph)({"x": X})[name]
    assert (got == evaluate(graph, {"x": X})[name]).all()


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_dynamic_quantize(axis):
    graph = network(ops.Identity())
    node = graph.add(ops.DynamicQuantize(axis), [graph["v0"]], names=["q", "s", "z"])
    real = graph.add(ops.DynamicDequantize(), node.outputs, names=["r"]).output
    graph.outputs = [*node.outputs, real]
    x = X.copy()
    x[0] = 0
    ours, theirs = evaluate(graph, {"x": x}), OnnxRuntimeExecutor().open(graph)({"x": x})
    for name in "qszr":
        assert ours[name].dtype == theirs[name].dtype
        assert (ours[name] == theirs[name]).all()


def wide() -> Graph:
    graph = Graph("wide")
    x = graph.input("x", TensorType("float32", (1, 512)))
    w = graph.constant(RNG.normal(size=(512, 600)).astype(np.float32), "w")
    graph.outputs = [graph.add(ops.MatMul(), [x, w], names=["y"]).output]
    return graph


WIDE = {"x": RNG.normal(size=(1, 512)).astype(np.float32)}


def test_large_weights_are_read_where_they_lie(monkeypatch):
    monkeypatch.setattr(executor, "SINGLE", 0)
    graph = wide()
    parts = parted(graph)
    assert parts.beside["w"].data is graph["w"].data
    assert parts.model.ByteSize() < 1000
    run = OnnxRuntimeExecutor().open(graph)
    before = run(WIDE)["y"]
    np.testing.assert_allclose(before, evaluate(graph, WIDE)["y"], 1e-4, 1e-4)
    graph["w"].data[:] *= 2
    np.testing.assert_array_equal(run(WIDE)["y"], 2 * before)


def test_numpy_runs_what_has_too_many_weights(monkeypatch):
    monkeypatch.setattr(executor, "WEIGHTS", 0)
    graph = wide()
    found = OnnxRuntimeExecutor().open(graph, ["y", "w"])(WIDE)
    np.testing.assert_array_equal(found["y"], evaluate(graph, WIDE)["y"])
    np.testing.assert_array_equal(found["w"], graph["w"].data)


@pytest.mark.parametrize("single", [True, False])
def test_models_with_many_weights_have_a_second_file(monkeypatch, tmp_path, single):
    graph = wide()
    if not single:
        monkeypatch.setattr(writer, "SINGLE", 512 * 600 * 4 - 1)
    path = tmp_path / "m.onnx"
    writer.save(graph, path)
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", *([] if single else ["m.onnx.data"])}
    onnx.checker.check_model(str(path), full_check=True)
    assert load(path).nodes[0].op == ops.MatMul()
    np.testing.assert_array_equal(load(path)["w"].data, graph["w"].data)


def test_integer_ops_are_refused_by_name():
    graph = Graph()
    q = graph.input("q", TensorType("uint8", (4,)))
    table = graph.constant(np.arange(256, dtype=np.uint8), "t")
    graph.outputs = [graph.add(ops.QTable(), [q, table], origin=Origin("act")).output]
    with pytest.raises(BackendError, match="'act': QTable has no standard ONNX form"):
        to_onnx(graph)


def test_a_wrong_feed_is_our_error():
    run = OnnxRuntimeExecutor().open(network(ops.Relu()))
    with pytest.raises(BackendError, match="onnxruntime: "):
        run({"x": X.astype(np.float64)})


def test_a_newer_opset_only_where_an_op_needs_it():
    graph = network(ops.Relu())
    assert to_onnx(graph).opset_import[0].version == 21
    scale = graph.constant(np.ones(6, np.float32), "scale")
    graph.outputs = [graph.add(ops.RMSNormalization(), [graph["v0"], scale]).output]
    assert to_onnx(graph).opset_import[0].version == 23
