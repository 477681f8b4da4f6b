"""Taking the quantization out of a Q/DQ model gives the float network with rounded weights."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from qc.backends.qdq.writer import to_onnx
from qc.ir import Graph, TensorType, evaluate, ops
from qc.scoring.strip import stripped

RNG = np.random.default_rng(0)


def qdq_model() -> tuple[onnx.ModelProto, np.ndarray]:
    """``x -> Q -> DQ -> Conv(DQ(w)) -> Q -> DQ -> y`` and the real weights."""
    codes = RNG.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8)
    scale = np.array([0.01, 0.02, 0.03, 0.04], np.float32)
    arrays = {
        "wq": codes, "ws": scale, "wz": np.zeros(4, np.int8), "s": np.float32(0.05),
        "z": np.uint8(128),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["w"], axis=0),
        helper.make_node("Conv", ["xd", "w"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 3, 3])],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model, codes.astype(np.float32) * scale[:, None, None, None]


def test_stripped_model_is_the_float_network() -> None:
    model, weights = qdq_model()
    out = stripped(model)
    onnx.checker.check_model(out)
    assert sorted(n.op_type for n in out.graph.node) == ["Conv", "Identity"]
    x = RNG.standard_normal((1, 2, 5, 5)).astype(np.float32)
    (y,) = ort.InferenceSession(out.SerializeToString()).run(None, {"x": x})
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    assert np.allclose(y, np.einsum("nchwij,ocij->nohw", windows, weights), atol=1e-4)


def test_the_original_is_left_alone() -> None:
    model, _ = qdq_model()
    before = model.SerializeToString()
    stripped(model)
    assert model.SerializeToString() == before


def test_inner_graphs_keep_what_they_read() -> None:
    """A Scan whose body reads a constant from outside."""
    graph, shapes = Graph("g"), [(1, 4, 3), (1, 4, 3), (1, 4, 2), (1, 4, 2)]
    u, delta, b, c = (
        graph.input(f"x{i}", TensorType("float32", shape)) for i, shape in enumerate(shapes)
    )
    a = graph.constant(-np.ones((3, 2), np.float32), "a")
    codes = graph.add(ops.Quantize((0.05,), (128,)), [u]).output
    u = graph.add(ops.Dequantize((0.05,), (128,)), [codes]).output
    graph.outputs = [graph.add(ops.SelectiveScan(), [u, delta, a, b, c]).output]
    out = stripped(to_onnx(graph))
    assert "QuantizeLinear" not in {n.op_type for n in out.graph.node}
    feed = {v.name: RNG.standard_normal(v.shape).astype(np.float32) for v in graph.inputs}
    feed["x0"], feed["x1"] = np.rint(feed["x0"] / 0.05) * np.float32(0.05), np.abs(feed["x1"])
    y = ort.InferenceSession(out.SerializeToString()).run([graph.outputs[0].name], feed)[0]
    assert np.allclose(y, evaluate(graph, feed)[graph.outputs[0].name], atol=1e-5)
