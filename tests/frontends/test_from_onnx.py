"""The ONNX reader on small models: every opset trap, folding, half precision, bad files."""

import mmap
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import (
    FLOAT,
    HALF,
    IMAGE,
    INT,
    X,
    ints,
    model,
    normal,
    one,
    refused,
    same,
    same_one,
)  # fmt: skip

from qc.frontends.from_onnx import load, load_inputs
from qc.ir import ops
from qc.ir.errors import FrontendError
from qc.ir.evaluate import evaluate
from qc.ir.mapped import release

# -- opset traps ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize(("opset", "axis"), [(7, 1), (11, 2), (12, 0), (12, -1), (13, 1), (18, -1)])
def test_softmax_before_13_flattens(kind, opset, axis):
    same_one(kind, [X], opset, axis=axis)


@pytest.mark.parametrize(("opset", "default"), [(12, True), (13, True)])
def test_softmax_default_axis(opset, default):
    same_one("Softmax", [X], opset)


def test_softmax_before_13_keeps_a_symbolic_batch():
    node = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    graph = same(
        model([node], {"x": (FLOAT, ["n", 3, 4])}, {"y": (FLOAT, None)}, opset=11), {"x": X}
    )
    assert graph.outputs[0].type.shape == ("n", 3, 4)


@pytest.mark.parametrize(
    ("kind", "opset", "weights", "attributes"),
    [
        ("Squeeze", 11, {}, {"axes": [0, 3]}),
        ("Squeeze", 13, {"a": ints(0, -1)}, {}),
        ("Squeeze", 13, {}, {}),
        ("Unsqueeze", 11, {}, {"axes": [1]}),
        ("Unsqueeze", 13, {"a": ints(1, -1)}, {}),
        ("ReduceMean", 11, {}, {"axes": [1], "keepdims": 0}),
        ("ReduceMean", 18, {"a": ints(1)}, {}),
        ("ReduceMean", 18, {}, {"noop_with_empty_axes": 1}),
        ("ReduceSum", 12, {}, {"axes": [-1]}),
        ("ReduceSum", 13, {"a": ints(1, 2)}, {"keepdims": 0}),
        ("Slice", 9, {}, {"starts": [1], "ends": [3], "axes": [1]}),
        ("Slice", 10, {"s": ints(0), "e": ints(-1), "a": ints(2)}, {}),
        ("Slice", 13, {"s": ints(-1), "e": ints(-(2**63)), "a": ints(1), "t": ints(-1)}, {}),
        ("Pad", 10, {}, {"pads": [0, 1, 0, 0, 0, 0, 2, 0], "value": 2.0}),
        ("Pad", 11, {"p": ints(0, 1, 0, 0, 0, 0, 2, 0), "v": np.float32(3)}, {}),
        ("Pad", 18, {"p": ints(1, 2), "absent": ints(), "a": ints(-3)}, {"mode": "reflect"}),
        ("Clip", 10, {}, {"min": -0.5, "max": 0.5}),
        ("Clip", 10, {}, {"max": 0.5}),
        ("Clip", 11, {"lo": np.float32(0)}, {}),
        ("Clip", 13, {"absent": ints(), "hi": np.float32(0.25)}, {}),
        ("Dropout", 11, {}, {"ratio": 0.3}),
        ("Dropout", 13, {"r": np.float32(0.3)}, {}),
        ("TopK", 9, {}, {"k": 2, "axis": 1}),
        ("TopK", 10, {"k": ints(2)}, {"axis": 1}),
        ("TopK", 11, {"k": ints(2)}, {"axis": 1, "largest": 0}),
        ("CumSum", 11, {"a": np.array(1, np.int64)}, {"reverse": 1}),
        ("Shape", 15, {}, {"start": 1, "end": -1}),
        ("Cast", 13, {}, {"to": TensorProto.INT32}),
    ],
)
def test_old_and_new_forms(kind, opset, weights, attributes):
    x = normal(1, 3, 4, 1)
    out = {"Shape": INT, "Cast": TensorProto.INT32}.get(kind, FLOAT)
    two = kind == "TopK"
    proto = one(kind, [x], opset, weights, results=1 + two, out=out, **attributes)
    if two:
        proto.graph.output[1].type.tensor_type.elem_type = INT
    same(proto, {"x0": x})


@pytest.mark.parametrize("opset", [11, 13])
def test_split_without_sizes(opset):
    same_one("Split", [normal(2, 6)], opset, results=3, axis=1)


def test_split_with_sizes():
    same_one("Split", [normal(2, 6)], 11, results=2, axis=1, split=[1, 5])
    same_one("Split", [normal(2, 6)], 13, {"s": ints(2, 4)}, results=2, axis=1)


def test_split_into_uneven_parts():
    same_one("Split", [normal(2, 7)], 18, results=3, axis=1, num_outputs=3)


@pytest.mark.parametrize(
    ("opset", "mode"), [(7, "nearest"), (7, "linear"), (9, "nearest"), (9, "linear")]
)
def test_upsample(opset, mode):
    scales = np.array([1, 1, 2, 3], np.float32)
    if opset == 7:
        same_one("Upsample", [IMAGE], 7, mode=mode, scales=scales.tolist())
    else:
        same_one("Upsample", [IMAGE], 9, {"s": scales}, mode=mode)


def test_resize():
    scales = np.array([1, 1, 2, 0.5], np.float32)
    same_one("Resize", [IMAGE], 10, {"s": scales}, mode="linear")
    same_one("Resize", [IMAGE], 11, {"roi": np.zeros(0, np.float32), "s": scales}, mode="linear")
    sizes = {"absent1": ints(), "absent2": ints(), "z": ints(1, 4, 9, 5)}
    same_one("Resize", [IMAGE], 13, sizes, mode="cubic")
    part = {"absent1": ints(), "absent2": ints(), "z": ints(9, 5)}
    same_one("Resize", [IMAGE], 18, part, mode="nearest", axes=[2, 3])


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("kind", ["Conv", "MaxPool", "AveragePool", "ConvTranspose"])
def test_auto_pad(kind, mode):
    weights = {"w": normal(4, 4, 3, 2)} if kind.startswith("Conv") else {}
    kernel = {} if weights else {"kernel_shape": [3, 2]}
    same_one(kind, [IMAGE], 11, weights, auto_pad=mode, strides=[2, 2], **kernel)


def test_auto_pad_of_a_symbolic_size():
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")
    proto = model(
        [node], {"x": (FLOAT, [1, 4, "h", 6])}, {"y": (FLOAT, None)}, {"w": normal(2, 4, 3, 3)}
    )
    assert same(proto, {"x": IMAGE}).outputs[0].type.shape == (1, 2, "h", 6)


def test_conv_transpose_with_output_shape():
    same_one(
        "ConvTranspose",
        [IMAGE],
        11,
        {"w": normal(4, 2, 3, 3)},
        strides=[2, 2],
        output_shape=[14, 12],
    )


def test_batch_normalization_forms():
    weights = {n: np.abs(normal(4)) + 0.5 for n in "sbmv"}
    same_one("BatchNormalization", [IMAGE], 7, weights)
    same_one("BatchNormalization", [IMAGE], 15, weights, epsilon=1e-3)
    graph = load(
        one("BatchNormalization", [X], 7, {n: np.abs(normal(3, 4)) for n in "sbmv"}, spatial=0)
    )
    assert sorted(n.op.name for n in graph.nodes) == ["Add", "Add", "Div", "Mul", "Sqrt", "Sub"]


def test_group_normalization_before_21_has_numbers_per_group():
    x = normal(2, 4, 5)
    node = one(
        "GroupNormalization",
        [x],
        18,
        {"s": np.float32([1, 2]), "b": np.float32([0, 1])},
        num_groups=2,
    )
    graph = load(node)
    assert graph.nodes[0].inputs[1].data.tolist() == [1, 1, 2, 2]


def test_gemm_broadcasts_its_bias():
    for c in (normal(5), normal(2, 1), np.float32(2)):
        same_one("Gemm", [normal(2, 3)], 7, {"b": normal(5, 3), "c": c}, transB=1, alpha=0.5)
    same_one("Gemm", [normal(2, 3)], 11, {"b": normal(3, 5)})


def test_layer_norms_and_activations():
    same_one("LayerNormalization", [X], 17, {"s": normal(4), "b": normal(4)})
    same_one("Gelu", [X], 20, approximate="tanh")
    same_one("HardSwish", [X], 14)
    same_one("Shrink", [X], 9, lambd=0.5, bias=0.1)
    same_one("MeanVarianceNormalization", [IMAGE], 13)
    same_one("GlobalLpPool", [IMAGE], 11, p=2)


@pytest.mark.parametrize("equation", ["bij,bjk", "...ij,...jk->...ik", "bij,bjk->ki"])
def test_einsum_forms(equation):
    same_one("Einsum", [normal(2, 3, 4), normal(2, 4, 5)], 12, equation=equation)


@pytest.mark.parametrize("opset", range(7, 27))
def test_every_opset(opset):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Softmax", ["d"], ["y"]),
    ]
    proto = model(
        nodes, {"x": (FLOAT, [1, 4, 7, 6])}, {"y": (FLOAT, None)}, {"w": normal(3, 4, 3, 3)}, opset
    )
    same(proto, {"x": IMAGE})


# -- folding, names, symbols ---------------------------------------------------------------------


def test_shape_arithmetic_folds_and_a_symbol_survives():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "zeros"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["y"]),
    ]
    weights = {"zero": np.array(0, np.int64), "zeros": ints(0), "rest": ints(2, 6)}
    graph = same(model(nodes, {"x": (FLOAT, ["n", 3, 4])}, {"y": (FLOAT, None)}, weights), {"x": X})
    assert [n.op for n in graph.nodes] == [ops.Reshape((0, 2, 6))]
    assert graph.outputs[0].type.shape == ("n", 2, 6)


def test_expand_by_equal_and_where_folds():
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["three"], ["ones"], value=numpy_helper.from_array(ints(1))
        ),
        helper.make_node("Mul", ["ones", "minus"], ["m"]),
        helper.make_node("Equal", ["want", "m"], ["e"]),
        helper.make_node("Where", ["e", "ones", "want"], ["t"]),
        helper.make_node("Expand", ["x", "t"], ["y"]),
    ]
    weights = {"three": ints(3), "minus": ints(-1), "want": ints(5, -1, 4)}
    proto = model(nodes, {"x": (FLOAT, [1, 3, 1])}, {"y": (FLOAT, None)}, weights)
    graph = same(proto, {"x": normal(1, 3, 1)})
    assert [n.op for n in graph.nodes] == [ops.Expand((5, 1, 4))]


def test_float_expressions_are_not_folded():
    proto = model(
        [helper.make_node("Exp", ["w"], ["e"]), helper.make_node("Add", ["x", "e"], ["y"])],
        {"x": (FLOAT, [2])},
        {"y": (FLOAT, None)},
        {"w": normal(2)},
    )
    assert [n.op.name for n in load(proto).nodes] == ["Exp", "Add"]


def test_float_shape_arithmetic_is_known_where_a_type_needs_it():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["f"], to=FLOAT),
        helper.make_node("Mul", ["f", "two"], ["g"]),
        helper.make_node("Floor", ["g"], ["h"]),
        helper.make_node("Cast", ["h"], ["i"], to=INT),
        helper.make_node("Resize", ["x", "", "", "i"], ["y"]),
    ]
    weights = {"two": np.array([1, 1, 2, 2], np.float32)}
    graph = same(
        model(nodes, {"x": (FLOAT, [1, 4, 7, 6])}, {"y": (FLOAT, None)}, weights), {"x": IMAGE}
    )
    assert [n.op.name for n in graph.nodes] == ["Resize"]


@pytest.mark.parametrize("condition", [True, False])
def test_constant_if_takes_its_branch(condition):
    def branch(kind):
        return helper.make_graph(
            [helper.make_node(kind, ["x"], [f"{kind}_y"])],
            kind,
            [],
            [helper.make_tensor_value_info(f"{kind}_y", FLOAT, None)],
        )

    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg")
    )
    proto = model(
        [node], {"x": (FLOAT, [2, 3, 4])}, {"y": (FLOAT, [2, 3, 4])}, {"c": np.array(condition)}
    )
    graph = same(proto, {"x": X})
    assert [n.op.name for n in graph.nodes] == ["Relu" if condition else "Neg"]


def test_names_and_origins():
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Identity", ["b"], ["y"]),
    ]
    graph = load(model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}))
    assert [(n.name, n.output.name) for n in graph.nodes] == [("first", "a"), ("b", "y")]


def test_one_value_under_two_output_names():
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Identity", ["a"], ["b"])]
    proto = model(nodes, {"x": (FLOAT, [2])}, {"a": (FLOAT, [2]), "b": (FLOAT, [2])})
    same(proto, {"x": np.array([-1, 1], np.float32)})


def test_an_input_that_is_an_output_by_identity():
    proto = model(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}
    )
    same(proto, {"x": normal(2)})


def test_nodes_in_any_order():
    nodes = [helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Relu", ["x"], ["a"])]
    graph = load(model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}))
    assert [n.op.name for n in graph.nodes] == ["Relu", "Neg"]


def test_initializers_listed_as_inputs():
    proto = model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": (FLOAT, [2]), "w": (FLOAT, [2])},
        {"y": (FLOAT, [2])},
        {"w": normal(2)},
        8,
        3,
    )
    assert [v.name for v in same(proto, {"x": normal(2)}).inputs] == ["x"]


def test_input_shapes_fix_a_symbol_everywhere():
    proto = model(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        {"a": (FLOAT, ["n", 4]), "b": (FLOAT, ["n", 4])},
        {"y": (FLOAT, None)},
    )
    graph = load(proto, {"a": (3, 4)})
    assert [v.type.shape for v in (*graph.inputs, *graph.outputs)] == [(3, 4)] * 3
    with pytest.raises(FrontendError, match=r"'a' has shape .* 4, not 5"):
        load(proto, {"a": (3, 5)})
    with pytest.raises(FrontendError, match="no input 'c'; "):
        load(proto, {"c": (3, 5)})


def test_local_functions_are_inlined():
    body = [helper.make_node("Relu", ["p"], ["q"])]
    function = helper.make_function("own", "Act", ["p"], ["q"], body, [helper.make_opsetid("", 18)])
    proto = model(
        [helper.make_node("Act", ["x"], ["y"], domain="own")],
        {"x": (FLOAT, [2])},
        {"y": (FLOAT, [2])},
        domains=["own"],
    )
    proto.functions.append(function)
    assert [n.op for n in load(proto).nodes] == [ops.Relu()]


# -- half precision, quantized, external data ----------------------------------------------------


def test_half_precision_is_computed_in_single():
    w = normal(3, 4, 3, 3).astype(np.float16)
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    proto = model(nodes, {"x": (HALF, [1, 4, 7, 6])}, {"y": (HALF, None)}, {"w": w})
    graph = same(proto, {"x": IMAGE.astype(np.float16)}, 2e-3, 1e-3)
    assert [n.op.name for n in graph.nodes] == ["Cast", "Conv", "Relu", "Cast"]
    assert {c.type.dtype for c in graph.constants} == {"float32"}
    assert [v.type.dtype for v in (*graph.inputs, *graph.outputs)] == ["float16"] * 2


def test_quantize_and_dequantize():
    s, z = np.array([0.1, 0.2, 0.3], np.float32), np.array([3, -2, 0], np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1),
    ]
    graph = same(
        model(nodes, {"x": (FLOAT, [2, 3, 4])}, {"y": (FLOAT, None)}, {"s": s, "z": z}, 13),
        {"x": X},
    )
    assert [n.op.name for n in graph.nodes] == ["Quantize", "Dequantize"]


def test_dynamic_quantize():
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    outputs = {"y": (FLOAT, None), "s": (FLOAT, []), "z": (TensorProto.UINT8, [])}
    same(model(nodes, {"x": (FLOAT, [2, 3, 4])}, outputs, opset=13), {"x": X})


def test_external_data(tmp_path: Path):
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (FLOAT, [2, 64])},
        {"y": (FLOAT, None)},
        {"w": normal(64, 64)},
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    assert load(path)["w"].data.shape == (64, 64)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(FrontendError, match="external data"):
        load(path)


def saved(tmp_path: Path, w) -> Path:
    """A product with weights in a file of their own."""
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (FLOAT, [2, len(w)])},
        {"y": (FLOAT, None)},
        {"w": w},
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def test_large_weights_are_mapped(tmp_path: Path):
    w = normal(640, 512)
    found = load(saved(tmp_path, w))["w"].data
    np.testing.assert_array_equal(found, w)
    assert not found.flags.writeable
    release(found)
    np.testing.assert_array_equal(found, w)
    while isinstance(found, np.ndarray):
        found = found.base
    assert isinstance(found, mmap.mmap)


def test_large_half_weights_are_read(tmp_path: Path):
    w = normal(1024, 640).astype(np.float16)
    proto_path = saved(tmp_path, w)
    found = load(proto_path)["w"].data
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, w.astype(np.float32))


def test_weights_that_end_too_soon(tmp_path: Path):
    path = saved(tmp_path, normal(640, 512))
    with (tmp_path / "w.bin").open("r+b") as file:
        file.truncate(640 * 512)
    with pytest.raises(FrontendError, match=r"external data: 'w' ends beyond 'w\.bin'"):
        load(path)


def test_weights_outside_of_the_folder_are_refused(tmp_path: Path):
    (tmp_path / "inner").mkdir()
    path = saved(tmp_path / "inner", normal(640, 512))
    (tmp_path / "inner" / "w.bin").rename(tmp_path / "w.bin")
    proto = onnx.load(str(path), load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "../w.bin"
    onnx.save(proto, str(path))
    with pytest.raises(FrontendError, match="outside of"):
        load(path)


def test_inputs_are_declared_without_the_weights(tmp_path: Path):
    proto = linear(normal(2, 2))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    path = tmp_path / "m.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    graph = load_inputs(path)
    assert [(v.name, v.type.shape) for v in graph.inputs] == [("x", ("n", 2))]
    assert graph.nodes == []
    assert load_inputs(path, {"x": (3, 2)}).inputs[0].type.shape == (3, 2)
    with pytest.raises(FrontendError, match=r"m\.onnx: no input 'z'"):
        load_inputs(path, {"z": (3, 2)})


# -- bad input -----------------------------------------------------------------------------------


def linear(w=None, **more):
    w = normal(2, 2) if w is None else w
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")],
        {"x": (FLOAT, [1, 2])},
        {"y": (FLOAT, None)},
        {"w": w},
        **more,
    )


def test_truncated_file(tmp_path: Path):
    path = tmp_path / "m.onnx"
    whole = linear(normal(2, 50)).SerializeToString()
    path.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refused(path)
    assert str(path) in refused(path)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 a zip file", b"hello world, this is text\n" * 9]
)
def test_not_onnx(tmp_path: Path, data: bytes):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    assert "not an ONNX file" in refused(path)


def test_no_such_file(tmp_path: Path):
    assert "no such file" in refused(tmp_path / "none.onnx")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value):
    w = normal(2, 2)
    w[1, 0] = value
    assert "initializer 'w' holds" in refused(linear(w))


def test_a_mask_may_hold_minus_infinity():
    mask = np.array([[0, -np.inf], [0, 0]], np.float32)
    proto = model(
        [helper.make_node("Add", ["x", "m"], ["y"])],
        {"x": (FLOAT, [2, 2])},
        {"y": (FLOAT, None)},
        {"m": mask},
    )
    same(proto, {"x": normal(2, 2)})


def test_cycle():
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"], name="two"),
    ]
    message = refused(model(nodes, {"x": (FLOAT, [2])}, {"b": (FLOAT, [2])}))
    assert "cycle through node 'one' (Add), node 'two' (Relu)" in message


def test_missing_initializer():
    proto = linear()
    del proto.graph.initializer[:]
    assert "node 'mm' (MatMul) reads 'w', which no node" in refused(proto)


def test_undefined_output():
    proto = linear()
    proto.graph.output[0].name = "z"
    assert "output 'z' is not defined" in refused(proto)


def test_all_unsupported_nodes_at_once():
    nodes = [
        helper.make_node("Relu6", ["x"], ["a"], name="typo"),
        helper.make_node("Relu", ["a"], ["b"], name="fine"),
        helper.make_node("RandomNormalLike", ["b"], ["c"], name="noise"),
        helper.make_node("Add", ["c", "x"], ["y"]),
    ]
    message = refused(model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}, opset=17))
    assert "2 nodes are not supported" in message
    assert "'typo' Relu6 opset 17 (no such op; did you mean 'Relu'?)" in message
    assert "'noise' RandomNormalLike opset 17 (random numbers are not reproducible)" in message
    assert "fine" not in message


def test_foreign_domain():
    node = helper.make_node("Magic", ["x"], ["y"], name="m", domain="acme", strength=3)
    graph = load(model([node], {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}, domains=["acme"]))
    assert graph.nodes[0].op == ops.Opaque(
        "Magic", "acme", (("strength", 3),), (graph.outputs[0].type,)
    )
    relu = helper.make_node("Relu", ["y"], ["z"])
    message = refused(
        model([node, relu], {"x": (FLOAT, [2])}, {"z": (FLOAT, [2])}, domains=["acme"])
    )
    assert "'m' acme.Magic" in message
    assert "types of its results" in message


@pytest.mark.parametrize("opset", [0, 99])
def test_opset_out_of_range(opset):
    assert f"opset {opset} is not in 1.." in refused(linear(opset=opset))


@pytest.mark.parametrize("axis", [1, -2])
def test_an_axis_says_where_an_old_operand_lies(axis):
    node = helper.make_node("Mul", ["x", "w"], ["y"], broadcast=1, axis=axis)
    w = np.array([1, 2, 3], np.float32)
    proto = model([node], {"x": (FLOAT, [2, 3, 4])}, {"y": (FLOAT, None)}, {"w": w}, 6)
    got = evaluate(load(proto), {"x": X})["y"]
    np.testing.assert_array_equal(got, X * w[:, None])


def old_concat(inputs):
    node = helper.make_node("Concat", ["x", "w"], ["y"])
    return model([node], inputs, {"y": (FLOAT, [1, 4])}, {"w": np.float32([[2, 3]])}, 3, 3)


def test_a_model_older_than_the_rules_is_converted():
    proto = old_concat({"x": (FLOAT, [1, 2]), "w": (FLOAT, [1, 2])})
    assert evaluate(load(proto), {"x": np.float32([[0, 1]])})["y"].tolist() == [[0, 1, 2, 3]]


def test_an_old_model_that_cannot_be_converted():
    message = refused(old_concat({"x": (FLOAT, [1, 2])}))
    assert "opset 3 cannot be converted to 6: " in message


def test_slopes_of_an_old_prelu_belong_to_channels():
    """Three slopes for three channels, although the last axis has three elements, too."""
    node = helper.make_node("PRelu", ["x", "s"], ["y"])
    inputs = {"x": (FLOAT, [1, 3, 3]), "s": (FLOAT, [3])}
    slopes = np.array([1, 2, 3], np.float32)
    feed = {"x": np.full((1, 3, 3), -1, np.float32)}
    for opset, expected in ((6, [[-1] * 3, [-2] * 3, [-3] * 3]), (7, [[-1, -2, -3]] * 3)):
        proto = model([node], inputs, {"y": (FLOAT, [1, 3, 3])}, {"s": slopes}, opset, 3)
        assert evaluate(load(proto), feed)["y"][0].tolist() == expected


def test_a_model_without_standard_operators_is_refused_by_their_names():
    node = helper.make_node("Binarizer", ["x"], ["y"], name="b", domain="ai.onnx.ml")
    proto = model([node], {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}, domains=["ai.onnx.ml"])
    del proto.opset_import[0]
    assert "'b' ai.onnx.ml.Binarizer" in refused(proto)
    node.domain = ""
    proto = model([node], {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}, domains=["ai.onnx.ml"])
    del proto.opset_import[0]
    assert "names no opset of the standard domain" in refused(proto)


def test_a_wrong_node_is_named():
    message = refused(linear(normal(3, 2)))
    assert "node 'mm' (MatMul, opset 18)" in message
    assert "do not multiply" in message


def test_a_split_of_unknown_sizes_is_named():
    node = helper.make_node("Split", ["x"], ["y", "z"], name="halves", axis=0, num_outputs=2)
    outputs = {"y": (FLOAT, None), "z": (FLOAT, None)}
    proto = model([node], {"x": (FLOAT, ["n", 3])}, outputs)
    assert "'halves' Split opset 18 (equal parts of dimension 'n'" in refused(proto)
