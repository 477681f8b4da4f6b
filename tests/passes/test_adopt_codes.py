"""Networks that other tools have quantized become integer graphs of ours."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Builder, residual_net
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from qc.backends.qdq.unsigned import unsigned_weights
from qc.backends.qdq.writer import to_onnx
from qc.frontends.from_onnx import load
from qc.ir import Graph, TensorType, ops
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify
from qc.passes import Context, PassManager
from qc.passes.adopt_codes import AdoptCodes
from qc.passes.fold_integers import FoldIntegers
from qc.passes.recipe import default_recipe, load_recipe
from qc.reporting.layers import islands


class Feeds(CalibrationDataReader):
    def __init__(self, feeds):
        self.left = iter(feeds)

    def get_next(self):
        return next(self.left, None)


def codes_of_ours(net: Builder) -> Graph:
    """The simulated graph of recipe int8, before it is folded."""
    passes = load_recipe("int8").passes[:-1]
    return PassManager(passes).run(net.graph, Context(calibration=net.feeds()))[0]


def lowered(graph: Graph) -> Graph:
    """``graph`` by the recipe for quantized networks, every pass checked."""
    recipe = load_recipe(default_recipe(False, quantized=True))
    out, _ = PassManager(recipe.passes).run(graph, Context(verify=True))
    verify(out)
    return out


def test_our_own_export_becomes_the_same_integers():
    net = residual_net()
    simulated = codes_of_ours(net)
    folded = simulated.copy()
    FoldIntegers().apply(folded, Context())
    again = lowered(load(to_onnx(unsigned_weights(simulated))))
    assert islands(again) == []
    for feed in net.feeds(3):
        (want,), (got,) = evaluate(folded, feed).values(), evaluate(again, feed).values()
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("form", "activations"),
    [
        (QuantFormat.QDQ, QuantType.QUInt8),
        (QuantFormat.QDQ, QuantType.QInt8),
        (QuantFormat.QOperator, QuantType.QUInt8),
    ],
)
def test_what_onnxruntime_quantizes_becomes_integers(tmp_path: Path, form, activations):
    net = residual_net()
    passes = load_recipe("float").passes
    real, _ = PassManager(passes).run(net.graph, Context())
    source, target = tmp_path / "real.onnx", tmp_path / "quantized.onnx"
    onnx.save(to_onnx(real), str(source))
    quantize_static(
        str(source), str(target), Feeds(net.feeds(16)), quant_format=form, per_channel=True,
        activation_type=activations, weight_type=QuantType.QInt8,
    )  # fmt: skip
    loaded = load(target)
    assert any(isinstance(n.op, ops.Quantize) for n in loaded.nodes)
    integers = lowered(loaded)
    assert islands(integers) == []
    for feed in net.feeds(4):
        (want,), (got,) = evaluate(loaded, feed).values(), evaluate(integers, feed).values()
        assert np.abs(got - want).max() <= 2 / 255


def layer(w, zero=(0,), scale=(0.1,), axis=None, op="Conv", bias=None, **attributes):
    """A layer on codes of ``x``, its weights codes ``w``."""
    shape = (1, 2, 4, 4) if op == "Conv" else (3, 2)
    graph = Graph("layer")
    x = graph.input("x", TensorType("float32", shape))
    q = graph.add(ops.Quantize((0.05,), (-3,), None, "int8"), [x]).output
    real = graph.add(ops.Dequantize((0.05,), (-3,)), [q]).output
    weights = graph.add(ops.Dequantize(scale, zero, axis), [graph.constant(w, "w")]).output
    more = [] if bias is None else [graph.constant(bias, "b")]
    made = ops.OPS[op](**attributes)
    y = graph.add(made, [real, weights, *more]).output
    graph.outputs = [y]
    graph.properties.add("canonical")
    verify(graph)
    return graph


RNG = np.random.default_rng(0)
KERNEL = RNG.integers(-127, 128, (3, 2, 1, 1))
MATRIX = RNG.integers(-127, 128, (2, 5))
BIAS = np.float32([0.05, -0.2, 0.3])


@pytest.mark.parametrize(
    "graph",
    [
        layer(KERNEL.astype(np.int8)),
        layer(KERNEL.astype(np.int8), (0,) * 3, (0.1, 0.2, 0.3), 0),
        layer((KERNEL + 128).astype(np.uint8), (128,)),
        layer(KERNEL.astype(np.int8), bias=BIAS),
        layer(MATRIX.astype(np.int8), op="MatMul"),
        layer(MATRIX.astype(np.int8), (0,) * 5, (0.1, 0.2, 0.3, 0.4, 0.5), 1, op="Gemm"),
        layer(MATRIX.T.astype(np.int8).copy(), op="Gemm", trans_b=True),
        layer(MATRIX.T.astype(np.int8).copy(), (0,) * 5, (0.1, 0.2, 0.3, 0.4, 0.5), 0,
              op="Gemm", trans_b=True),
    ],
)  # fmt: skip
def test_a_layer_takes_our_form_and_keeps_its_reals(graph):
    adopted = graph.copy()
    assert AdoptCodes().apply(adopted, Context())["layers"] == 1
    verify(adopted)
    assert {n.op.dtype for n in adopted.nodes if isinstance(n.op, ops.Quantize)} == {"uint8"}
    assert {v.type.dtype for v in adopted.constants} <= {"int8", "int32"}
    feed = {"x": RNG.normal(size=graph.inputs[0].shape).astype(np.float32)}
    (want,), (got,) = evaluate(graph, feed).values(), evaluate(adopted, feed).values()
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=0.005)
    FoldIntegers().apply(adopted, Context())
    assert {"QConv", "QMatMul"} & {n.op.name for n in adopted.nodes}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_weights_that_are_quantized_in_the_graph(dtype):
    """What tools for training with quantization export: reals, Quantize, Dequantize."""
    zero = 0 if dtype == "int8" else 128
    graph = layer((KERNEL + zero).astype(dtype), (zero,))
    codes = graph["w"]
    (dequantize,) = codes.uses
    reals = graph.constant((KERNEL * 0.1).astype(np.float32), "real")
    made = graph.add(ops.Quantize((0.1,), (zero,), None, dtype), [reals], before=dequantize)
    graph.set_inputs(dequantize, [made.output])
    graph.prune()
    verify(graph)
    adopted = graph.copy()
    assert AdoptCodes().apply(adopted, Context())["layers"] == 1
    verify(adopted)
    assert [n.op.name for n in adopted.nodes if n.op.name == "Quantize"] == ["Quantize"]
    feed = {"x": RNG.normal(size=graph.inputs[0].shape).astype(np.float32)}
    (want,), (got,) = evaluate(graph, feed).values(), evaluate(adopted, feed).values()
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    "graph",
    [
        layer((KERNEL + 128).astype(np.uint8), (0,)),
        layer(KERNEL.astype(np.int8), (0, 0), (0.1, 0.2), 1),
        layer(MATRIX.astype(np.int8), op="Gemm", alpha=0.5),
    ],
)
def test_weights_of_another_kind_stay_as_they_are(graph):
    adopted = graph.copy()
    assert AdoptCodes().apply(adopted, Context())["layers"] == 0
    feed = {"x": RNG.normal(size=graph.inputs[0].shape).astype(np.float32)}
    (want,), (got,) = evaluate(graph, feed).values(), evaluate(adopted, feed).values()
    np.testing.assert_array_equal(got, want)


def test_codes_move_where_nobody_quantizes_again():
    """Flatten stands between the codes and their layer; what leaves the graph stays real."""
    graph = Graph("g")
    x = graph.input("x", TensorType("float32", (3, 2, 2)))
    q = graph.add(ops.Quantize((0.05,), (-3,), None, "int8"), [x]).output
    real = graph.add(ops.Dequantize((0.05,), (-3,)), [q]).output
    flat = graph.add(ops.Flatten(), [graph.add(ops.Transpose((0, 2, 1)), [real]).output]).output
    w = graph.constant(RNG.integers(-127, 128, (4, 5)).astype(np.int8))
    weights = graph.add(ops.Dequantize((0.1,)), [w]).output
    graph.outputs = [
        graph.add(ops.MatMul(), [flat, weights]).output,
        graph.add(ops.Reshape((12,)), [real]).output,
    ]
    adopted = graph.copy()
    assert AdoptCodes().apply(adopted, Context())["layers"] == 1
    verify(adopted)
    moved = {n.op.name: n.output.type.dtype for n in adopted.nodes}
    assert (moved["Flatten"], moved["Transpose"], moved["Reshape"]) == ("uint8", "uint8", "float32")
    feed = {"x": RNG.normal(size=(3, 2, 2)).astype(np.float32)}
    want, got = evaluate(graph, feed), evaluate(adopted, feed)
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)


def test_signed_codes_that_leave_the_graph_stay():
    graph = Graph("g")
    x = graph.input("x", TensorType("float32", (2,)))
    graph.outputs = [graph.add(ops.Quantize((0.1,), (1,), None, "int8"), [x]).output]
    assert AdoptCodes().apply(graph, Context())["activations"] == 0
    assert graph.outputs[0].type.dtype == "int8"


def test_narrow_codes_keep_their_bounds():
    graph = Graph("g")
    x = graph.input("x", TensorType("float32", (4,)))
    q = graph.add(ops.Quantize((0.1,), (0,), None, "int8", -127, 100), [x]).output
    graph.outputs = [graph.add(ops.Dequantize((0.1,)), [q]).output]
    feed = {"x": np.float32([-99, -1, 1, 99])}
    want = evaluate(graph, feed)[graph.outputs[0].name]
    AdoptCodes().apply(graph, Context())
    assert graph.nodes[0].op == ops.Quantize((0.1,), (128,), None, "uint8", 1, 228)
    np.testing.assert_array_equal(evaluate(graph, feed)[graph.outputs[0].name], want)
