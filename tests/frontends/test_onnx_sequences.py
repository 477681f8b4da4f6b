"""Sequences of known length, optional tensors and strings from ONNX."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import FLOAT, INT, X, ints, model, normal, refused, same

from qc.frontends.from_onnx import load
from qc.ir.evaluate import evaluate

Y, Z = normal(2, 3, 4), normal(2, 3, 4)
FEED = {"x": X, "y": Y, "z": Z}
INPUTS = {n: (FLOAT, a.shape) for n, a in FEED.items()}
CONSTRUCT = helper.make_node("SequenceConstruct", ["x", "y", "z"], ["s"])


@pytest.mark.parametrize(
    ("nodes", "at"),
    [
        ([helper.make_node("SequenceAt", ["s", "at"], ["out"])], 1),
        ([helper.make_node("SequenceAt", ["s", "at"], ["out"])], -1),
        ([helper.make_node("SequenceErase", ["s", "at"], ["t"]),
          helper.make_node("ConcatFromSequence", ["t"], ["out"], axis=0)], 0),
        ([helper.make_node("SequenceErase", ["s"], ["t"]),
          helper.make_node("ConcatFromSequence", ["t"], ["out"], axis=-1, new_axis=1)], 0),
        ([helper.make_node("SequenceInsert", ["s", "y", "at"], ["t"]),
          helper.make_node("ConcatFromSequence", ["t"], ["out"], axis=1)], -1),
        ([helper.make_node("Identity", ["s"], ["t"]),
          helper.make_node("SequenceInsert", ["t", "x"], ["u"]),
          helper.make_node("ConcatFromSequence", ["u"], ["out"], axis=1)], 0),
    ],
)  # fmt: skip
def test_a_sequence_is_a_list_while_the_model_is_read(nodes, at):
    weights = {"at": np.asarray(at)}
    graph = same(model([CONSTRUCT, *nodes], INPUTS, {"out": (FLOAT, None)}, weights), FEED)
    assert {n.op.name for n in graph.nodes} <= {"Concat", "Unsqueeze", "Identity"}


def test_an_empty_sequence_grows():
    nodes = [
        helper.make_node("SequenceEmpty", [], ["e"]),
        helper.make_node("SequenceInsert", ["e", "x"], ["s"]),
        helper.make_node("SequenceLength", ["s"], ["n"]),
        helper.make_node("SequenceAt", ["s", "zero"], ["out"]),
    ]
    outputs = {"out": (FLOAT, None), "n": (INT, [])}
    same(model(nodes, INPUTS, outputs, {"zero": np.asarray(0)}), FEED)


@pytest.mark.parametrize(
    ("weights", "attributes", "count"),
    [
        ({}, {"axis": 2}, 4),
        ({}, {"axis": 1, "keepdims": 0}, 3),
        ({"k": np.asarray(3)}, {"axis": -1}, 2),
        ({"k": ints(1, 3)}, {"axis": 2}, 2),
    ],
)
def test_split_to_sequence(weights, attributes, count):
    nodes = [
        helper.make_node("SplitToSequence", ["x", *weights], ["s"], **attributes),
        helper.make_node("SequenceLength", ["s"], ["n"]),
        helper.make_node("SequenceAt", ["s", "one"], ["out"]),
    ]
    outputs = {"out": (FLOAT, None), "n": (INT, [])}
    proto = model(nodes, {"x": (FLOAT, X.shape)}, outputs, {"one": np.asarray(1), **weights})
    same(proto, {"x": X})
    assert evaluate(load(proto), {"x": X})["n"] == count


@pytest.mark.parametrize(
    ("nodes", "weights", "message"),
    [
        ([helper.make_node("SequenceAt", ["s", "at"], ["out"], name="pick")], {"at": np.asarray(3)},
         "node 'pick' (SequenceAt, opset 18): position 3 is beyond the 3 elements"),
        ([helper.make_node("Relu", ["s"], ["out"], name="act")], {},
         "'act' Relu opset 18 (its operand is a sequence)"),
        ([helper.make_node("Identity", ["s"], ["out"])], {},
         "output 'out' is a sequence; only tensors can be"),
        ([helper.make_node("SequenceLength", ["x"], ["out"], name="len")], {},
         "node 'len' (SequenceLength, opset 18): its first operand is not a sequence"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_sequence_is_named(nodes, weights, message):
    proto = model([CONSTRUCT, *nodes], INPUTS, {"out": (FLOAT, None)}, weights)
    assert message in refused(proto)


def test_a_position_that_is_not_constant_is_named():
    nodes = [CONSTRUCT, helper.make_node("SequenceAt", ["s", "at"], ["out"], name="pick")]
    proto = model(nodes, INPUTS | {"at": (INT, [])}, {"out": (FLOAT, None)})
    assert "'pick' SequenceAt opset 18 (the position (%at) is not constant)" in refused(proto)


def test_a_sequence_as_input_is_refused():
    info = helper.make_tensor_sequence_value_info("s", FLOAT, None)
    proto = model([helper.make_node("SequenceLength", ["s"], ["n"])], {}, {"n": (INT, [])})
    proto.graph.input.append(info)
    assert "input 's' is a sequence; only tensors are supported" in refused(proto)


@pytest.mark.parametrize("present", [True, False])
def test_the_file_says_whether_an_optional_is_there(present):
    node = helper.make_node("OptionalHasElement", ["x"] if present else [""], ["out"])
    proto = model([node], INPUTS, {"out": (TensorProto.BOOL, [])})
    assert evaluate(load(proto), FEED)["out"] == present


def test_strings_pass_through():
    text = TensorProto.STRING
    nodes = [
        helper.make_node("StringNormalizer", ["x"], ["n"], stopwords=["the"]),
        helper.make_node("StringConcat", ["n", "dot"], ["y"]),
    ]
    proto = model(nodes, {"x": (text, [3])}, {"y": (text, None)}, {"dot": np.array(["."])}, 20)
    got = evaluate(load(proto), {"x": np.array(["the", "small", "end"], object)})["y"]
    assert got.tolist() == ["small.", "end."]


def test_strings_without_elements():
    text = TensorProto.STRING
    node = helper.make_node("StringSplit", ["x"], ["y", "n"])
    proto = model([node], {"x": (text, [0])}, {"y": (text, None), "n": (INT, None)}, opset=20)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0
    graph = load(proto, {"x": (0,)})
    assert evaluate(graph, {"x": np.zeros(0, object)})["n"].shape == (0,)
