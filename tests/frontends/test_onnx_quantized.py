"""Networks that other tools have quantized: QDQ and QLinear forms, dynamic integers."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import FLOAT, model, normal, refused, same

from qc.frontends.from_onnx import load
from qc.ir import ops
from qc.ir.evaluate import evaluate

UINT8, INT32 = TensorProto.UINT8, TensorProto.INT32
RNG = np.random.default_rng(1)


def codes(dtype, *shape):
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min // 2, limits.max // 2, shape).astype(dtype)


def test_qlinear_conv_is_quantize_around_a_convolution():
    weights = {
        "xs": np.float32(0.02), "xz": np.uint8(110), "w": codes("uint8", 5, 3, 3, 3),
        "ws": np.float32(0.01), "wz": np.uint8(70), "ys": np.float32(0.3), "yz": np.uint8(128),
        "b": RNG.integers(-900, 900, 5).astype(np.int32),
    }  # fmt: skip
    weights = {k: np.asarray(v) for k, v in weights.items()}
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", names, ["y"], pads=[1, 1, 1, 1], strides=[2, 1])
    proto = model([node], {"x": (UINT8, [2, 3, 6, 6])}, {"y": (UINT8, None)}, weights, 13)
    graph = same(proto, {"x": codes("uint8", 2, 3, 6, 6)}, rtol=0, atol=0)
    kinds = [type(n.op) for n in graph.nodes]
    assert kinds == [ops.Dequantize, ops.Dequantize, ops.Dequantize, ops.Conv, ops.Quantize]


def test_qlinear_conv_with_a_scale_per_channel():
    weights = {
        "xs": np.asarray(0.02, np.float32), "xz": np.asarray(110, np.uint8),
        "w": codes("int8", 4, 2, 3, 3), "ws": np.abs(normal(4)) / 50 + 0.01,
        "wz": np.zeros(4, np.int8), "ys": np.asarray(0.3, np.float32),
        "yz": np.asarray(128, np.uint8), "b": RNG.integers(-900, 900, 4).astype(np.int32),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", names, ["y"])
    proto = model([node], {"x": (UINT8, [1, 2, 6, 6])}, {"y": (UINT8, None)}, weights, 13)
    graph = load(proto)
    x = codes("uint8", 1, 2, 6, 6)
    reals = (x.astype(np.float64) - 110) * 0.02
    w = weights["w"] * weights["ws"].reshape(-1, 1, 1, 1).astype(np.float64)
    (sums,) = ops.Conv().eval([reals, w])
    bias = weights["b"] * (weights["ws"] * np.float32(0.02))
    expected = np.clip(np.rint((sums + bias.reshape(-1, 1, 1)) / 0.3) + 128, 0, 255)
    assert np.abs(evaluate(graph, {"x": x})["y"] - expected).max() <= 1
    assert graph.nodes[1].op.axis == 0


def test_qlinear_matmul():
    weights = {
        "as": np.float32(0.03), "az": np.uint8(120), "b": codes("uint8", 5, 4),
        "bs": np.float32(0.02), "bz": np.uint8(60), "ys": np.float32(0.05), "yz": np.uint8(100),
    }  # fmt: skip
    weights = {k: np.asarray(v) for k, v in weights.items()}
    node = helper.make_node("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], ["y"])
    proto = model([node], {"a": (UINT8, [3, 5])}, {"y": (UINT8, None)}, weights, 13)
    graph = same(proto, {"a": codes("uint8", 3, 5)}, rtol=0, atol=0)
    assert [type(n.op) for n in graph.nodes][-2:] == [ops.MatMul, ops.Quantize]


def test_dynamic_quantization_of_a_product():
    """What onnxruntime's dynamic quantizer writes."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["reals"], to=FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["scale"]),
        helper.make_node("Mul", ["reals", "scale"], ["y"]),
    ]
    weights = {
        "w": codes("uint8", 6, 4), "wz": np.asarray(64, np.uint8),
        "ws": np.asarray(0.02, np.float32),
    }  # fmt: skip
    proto = model(nodes, {"x": (FLOAT, [3, 6])}, {"y": (FLOAT, None)}, weights, 13)
    same(proto, {"x": normal(3, 6)})


@pytest.mark.parametrize("zero", [True, False])
def test_conv_integer(zero):
    weights = {"w": codes("uint8", 4, 2, 3, 3), "z": np.asarray(90, np.uint8)}
    names = ["x", "w", "z"] if zero else ["x", "w"]
    node = helper.make_node("ConvInteger", names, ["y"], auto_pad="SAME_UPPER")
    proto = model([node], {"x": (UINT8, [1, 2, 5, 6])}, {"y": (INT32, None)}, weights, 13)
    graph = same(proto, {"x": codes("uint8", 1, 2, 5, 6)}, rtol=0, atol=0)
    assert graph.nodes[0].op.pads == (1, 1, 1, 1)


def test_scales_that_are_computed():
    nodes = [
        helper.make_node("Abs", ["t"], ["s"]),
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=0),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=0),
    ]
    inputs = {"x": (FLOAT, [3, 4]), "t": (FLOAT, [3]), "z": (UINT8, [3])}
    proto = model(nodes, inputs, {"y": (FLOAT, None)}, opset=13)
    feed = {"x": normal(3, 4), "t": normal(3) + 2, "z": codes("uint8", 3)}
    graph = same(proto, feed)
    assert [type(n.op) for n in graph.nodes][1:] == [ops.QuantizeLinear, ops.DequantizeLinear]


def test_blocks_of_int4():
    scale = np.abs(normal(2, 4)) + 0.1
    w = np.asarray(RNG.integers(-8, 8, (6, 4)), np.float32).astype("int4")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0, block_size=3),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    proto = model(nodes, {"x": (FLOAT, [2, 6])}, {"y": (FLOAT, None)}, {"w": w, "s": scale}, 21, 10)
    graph = same(proto, {"x": normal(2, 6)})
    assert graph["w"].type.dtype == "int4"


# -- onnxruntime's own operators -----------------------------------------------------------------


def contrib(kind, names, weights, steps=0, **attributes):
    shape = (2, 3, 4, 4)
    node = helper.make_node(kind, names, ["y"], name="own", domain="com.microsoft", **attributes)
    weights = {k: np.asarray(v) for k, v in weights.items()}
    proto = model(
        [node], {"x": (UINT8, list(shape))}, {"y": (UINT8, None)}, weights, 17,
        domains=["com.microsoft"],
    )  # fmt: skip
    return same(proto, {"x": codes("uint8", *shape)}, rtol=0, atol=steps)


GRID = {"s": np.float32(0.02), "z": np.uint8(60), "ys": np.float32(0.05), "yz": np.uint8(90)}


@pytest.mark.parametrize("kind", ["QLinearAdd", "QLinearMul"])
def test_elementwise_codes(kind):
    other = {"b": codes("uint8", 2, 3, 4, 4), "t": np.float32(0.03), "u": np.uint8(77)}
    graph = contrib(kind, ["x", "s", "z", "b", "t", "u", "ys", "yz"], GRID | other)
    kinds = [n.op.name for n in graph.nodes]
    assert kinds == ["Dequantize", "Dequantize", kind.removeprefix("QLinear"), "Quantize"]


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("QLinearSigmoid", {}),
        ("QLinearLeakyRelu", {"alpha": 0.2}),
        ("QLinearGlobalAveragePool", {}),
        ("QLinearAveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ],
)
def test_functions_of_codes(kind, attributes):
    means = kind == "QLinearAveragePool"  # which onnxruntime sums in float32
    graph = contrib(kind, ["x", "s", "z", "ys", "yz"], GRID, int(means), **attributes)
    assert [n.op.name for n in graph.nodes][::2] == ["Dequantize", "Quantize"]


def test_concatenation_of_codes():
    other = {"b": codes("uint8", 2, 5, 4, 4), "t": np.float32(0.03), "u": np.uint8(77)}
    names = ["ys", "yz", "x", "s", "z", "b", "t", "u"]
    contrib("QLinearConcat", names, GRID | other, axis=1)


@pytest.mark.parametrize("real", [False, True])
def test_gemm_of_codes(real):
    weights = GRID | {
        "b": codes("int8", 5, 4), "t": np.abs(normal(5)) / 50 + 0.01, "u": np.zeros(5, np.int8),
        "c": RNG.integers(-900, 900, 5).astype(np.int32),
    }  # fmt: skip
    names = ["x", "s", "z", "b", "t", "u", "c"]
    if real:
        weights = {k: v for k, v in weights.items() if k not in ("ys", "yz")}
    out = FLOAT if real else UINT8
    names += [] if real else ["ys", "yz"]
    node = helper.make_node("QGemm", names, ["y"], domain="com.microsoft", transB=1)
    proto = model(
        [node], {"x": (UINT8, [3, 4])}, {"y": (out, None)},
        {k: np.asarray(v) for k, v in weights.items()}, 17, domains=["com.microsoft"],
    )  # fmt: skip
    x = codes("uint8", 3, 4)
    reals = (x.astype(np.float64) - 60) * np.float32(0.02)
    w = weights["b"] * weights["t"][:, None].astype(np.float64)
    expected = reals @ w.T + weights["c"] * (weights["t"] * np.float32(0.02)).astype(np.float64)
    got = evaluate(load(proto), {"x": x})["y"]
    if real:
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    else:
        steps = np.clip(np.rint(expected / 0.05) + 90, 0, 255)
        assert np.abs(got - steps).max() <= 1


def test_channels_last_is_refused():
    names = ["x", "s", "z", "ys", "yz"]
    node = helper.make_node(
        "QLinearGlobalAveragePool", names, ["y"], name="own", domain="com.microsoft",
        channels_last=1,
    )  # fmt: skip
    weights = {k: np.asarray(v) for k, v in GRID.items()}
    proto = model(
        [node], {"x": (UINT8, [1, 4, 4, 2])}, {"y": (UINT8, None)}, weights, 17,
        domains=["com.microsoft"],
    )  # fmt: skip
    assert "'own' com.microsoft.QLinearGlobalAveragePool opset 17 (channels last" in refused(proto)
