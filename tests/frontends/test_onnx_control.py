"""Control flow from ONNX: captures, shapes that change, axes and directions, what is refused."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import FLOAT, INT, ints, model, normal, refused, same

from qc.frontends.from_onnx import load
from qc.ir import ops
from qc.ir.evaluate import evaluate

BOOL = TensorProto.BOOL
X = normal(3, 4)


def info(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def body(nodes, ins, outs, weights=None):
    constants = [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()]
    return helper.make_graph(nodes, "body", ins, outs, constants)


def node(kind, ins, outs, **attributes):
    return helper.make_node(kind, ins, outs, name=f"the_{kind.lower()}", **attributes)


def choice(then_nodes, else_nodes, then_out, else_out):
    branches = {
        "then_branch": body(then_nodes, [], [info(then_out)]),
        "else_branch": body(else_nodes, [], [info(else_out)]),
    }
    return helper.make_node("If", ["c"], ["y"], name="the_if", **branches)


@pytest.mark.parametrize("condition", [True, False])
def test_if_captures_values_and_constants(condition):
    first = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["p"])]
    second = [helper.make_node("Neg", ["z"], ["q"])]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), choice(first, second, "p", "q")]
    proto = model(
        nodes, {"x": (FLOAT, [3, 4]), "c": (BOOL, [])}, {"y": (FLOAT, None)}, {"w": normal(4, 2)}
    )
    graph = same(proto, {"x": X, "c": np.asarray(condition)})
    op = graph.nodes[-1].op
    assert graph.nodes[-1].inputs[0].name == "c"
    assert {v.name for v in graph.nodes[-1].inputs[1:]} == {"x", "z"}
    assert [v.name for v in op.then_branch.constants] == ["w"]
    assert op.else_branch.constants == []


@pytest.mark.parametrize("condition", [True, False])
def test_if_in_if(condition):
    inner = choice(
        [helper.make_node("Relu", ["x"], ["p"])], [helper.make_node("Neg", ["x"], ["q"])], "p", "q"
    )
    inner.output[0] = "r"
    nodes = [choice([inner], [helper.make_node("Abs", ["x"], ["s"])], "r", "s")]
    proto = model(nodes, {"x": (FLOAT, [3, 4]), "c": (BOOL, [])}, {"y": (FLOAT, None)})
    same(proto, {"x": X, "c": np.asarray(condition)})


def test_a_branch_may_give_what_it_captures():
    proto = model(
        [choice([helper.make_node("Identity", ["x"], ["p"])],
                [helper.make_node("Neg", ["x"], ["q"])], "p", "q")],
        {"x": (FLOAT, [3, 4]), "c": (BOOL, [])}, {"y": (FLOAT, None)},
    )  # fmt: skip
    same(proto, {"x": X, "c": np.asarray(True)})


def test_branches_of_different_rank_are_named():
    nodes = [
        choice(
            [helper.make_node("Identity", ["x"], ["p"])],
            [helper.make_node("Flatten", ["x"], ["q"])], "p", "q",
        )
    ]  # fmt: skip
    inputs = {"x": (FLOAT, [3, 4, 2]), "c": (BOOL, [])}
    message = refused(model(nodes, inputs, {"y": (FLOAT, None)}))
    assert "'the_if' If opset 18 (its branches give results of different rank" in message


def growing_loop():
    """Concatenates ``x`` to the state, while fewer than the trips."""
    inside = [
        helper.make_node("Concat", ["s", "x"], ["longer"], axis=0),
        helper.make_node("ReduceSum", ["longer"], ["total"], keepdims=0),
        helper.make_node("Identity", ["go"], ["on"]),
    ]
    graph = body(
        inside,
        [info("i", INT, []), info("go", BOOL, []), info("s")],
        [info("on", BOOL, []), info("longer"), info("total")],
    )
    return node("Loop", ["n", "", "x"], ["y", "sums"], body=graph)


@pytest.mark.parametrize("trips", [0, 3])
def test_a_loop_whose_state_grows(trips):
    outputs = {"y": (FLOAT, None), "sums": (FLOAT, None)}
    proto = model([growing_loop()], {"n": (INT, []), "x": (FLOAT, [3, 4])}, outputs)
    graph = load(proto)
    assert [v.type.rank for v in graph.outputs] == [2, 1]
    assert isinstance(graph.outputs[0].type.shape[0], str)
    assert graph.outputs[0].type.shape[1] == 4
    same(proto, {"n": np.asarray(trips), "x": X})


def test_a_loop_that_ends_itself():
    inside = [
        helper.make_node("Mul", ["s", "two"], ["t"]),
        helper.make_node("ReduceMax", ["t"], ["m"], keepdims=0),
        helper.make_node("Less", ["m", "limit"], ["on"]),
    ]
    graph = body(
        inside,
        [info("i", INT, []), info("go", BOOL, []), info("s")],
        [info("on", BOOL, []), info("t")],
        {"two": np.float32(2)},
    )
    proto = model(
        [node("Loop", ["", "", "x"], ["y"], body=graph)],
        {"x": (FLOAT, [2]), "limit": (FLOAT, [])},
        {"y": (FLOAT, None)},
    )
    same(proto, {"x": np.float32([1, -3]), "limit": np.asarray(20, np.float32)})


def counting_loop(trips, on="go", extra=()):
    """``s += x * i``, and each of these sums; ``on`` says whether it goes on."""
    inside = [
        helper.make_node("Cast", ["i"], ["f"], to=FLOAT),
        helper.make_node("Mul", ["x", "f"], ["m"]),
        helper.make_node("Add", ["s", "m"], ["t"]),
        helper.make_node("Identity", ["t"], ["row"]),
        *extra,
        helper.make_node("Identity", [on], ["goes"]),
    ]
    graph = body(
        inside,
        [info("i", INT, []), info("go", BOOL, []), info("s")],
        [info("goes", BOOL, []), info("t"), info("row")],
    )
    loop = node("Loop", ["n", "", "x"], ["y", "rows"], body=graph)
    outputs = {"y": (FLOAT, None), "rows": (FLOAT, None)}
    return model([loop], {"x": (FLOAT, [2, 3])}, outputs, {"n": np.asarray(trips, np.int64)})


def test_a_loop_of_no_trips_yields_rows_of_its_shape():
    """onnxruntime says nothing of the shape there."""
    graph = load(counting_loop(0))
    x = normal(2, 3)
    found = evaluate(graph, {"x": x})
    np.testing.assert_array_equal(found["y"], x)
    assert found["rows"].shape == graph.outputs[1].type.shape == (0, 2, 3)


@pytest.mark.parametrize("trips", [1, 5])
def test_a_loop_that_is_counted_is_a_scan(trips):
    graph = same(counting_loop(trips), {"x": normal(2, 3)})
    assert [n.op.name for n in graph.nodes] == ["Scan"]
    assert [v.type.shape for v in graph.outputs] == [(2, 3), (trips, 2, 3)]


def test_a_loop_that_may_end_earlier_stays_one():
    extra = [
        helper.make_node("ReduceMax", ["t"], ["greatest"], keepdims=0),
        helper.make_node("Less", ["greatest", "f"], ["small"]),
    ]
    graph = same(counting_loop(5, "small", extra), {"x": normal(2, 3)})
    assert "Loop" in [n.op.name for n in graph.nodes]
    graph = load(counting_loop(2**40))
    assert "Loop" in [n.op.name for n in graph.nodes]


def test_a_state_that_changes_its_rank_is_named():
    inside = [helper.make_node("Unsqueeze", ["s", "axes"], ["t"])]
    graph = body(
        inside,
        [info("i", INT, []), info("go", BOOL, []), info("s")],
        [info("go", BOOL, []), info("t")],
        {"axes": ints(0)},
    )
    proto = model(
        [node("Loop", ["n", "", "x"], ["y"], body=graph)],
        {"n": (INT, []), "x": (FLOAT, [2])},
        {"y": (FLOAT, None)},
    )
    assert "'the_loop' Loop opset 18 (its state changes from float32[2] to" in refused(proto)


def scanning(opset=18, **attributes):
    inside = [
        helper.make_node("Add", ["s", "e"], ["t"]),
        helper.make_node("Mul", ["t", "w"], ["u"]),
    ]
    graph = body(inside, [info("s"), info("e")], [info("t"), info("u")])
    scan = node("Scan", ["first", "x"], ["last", "y"], body=graph, num_scan_inputs=1, **attributes)
    return model(
        [scan],
        {"first": (FLOAT, [4]), "x": (FLOAT, [3, 4]), "w": (FLOAT, [4])},
        {"last": (FLOAT, None), "y": (FLOAT, None)},
        opset=opset,
    )


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"scan_input_directions": [1]},
        {"scan_output_directions": [1]},
        {"scan_output_axes": [1]},
        {"scan_output_axes": [-1], "scan_output_directions": [1], "scan_input_directions": [1]},
    ],
)
def test_scan_and_its_ways(attributes):
    graph = same(scanning(**attributes), {"first": normal(4), "x": X, "w": normal(4)})
    (scan,) = (n for n in graph.nodes if isinstance(n.op, ops.Scan))
    assert [v.name for v in scan.inputs[:1]] == ["first"]
    assert scan.inputs[-1].name == "w"


def test_scan_along_another_axis():
    proto = scanning(scan_input_axes=[1])
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    proto.graph.input[2].type.tensor_type.shape.dim[0].dim_value = 3
    same(proto, {"first": normal(3), "x": X, "w": normal(3)})


def test_nodes_inside_that_are_not_supported_are_listed():
    first = [helper.make_node("RandomNormalLike", ["x"], ["p"], name="noise")]
    second = [helper.make_node("Neg", ["x"], ["q"])]
    inputs = {"x": (FLOAT, [3, 4]), "c": (BOOL, [])}
    message = refused(model([choice(first, second, "p", "q")], inputs, {"y": (FLOAT, None)}))
    assert "'noise' RandomNormalLike opset 18" in message
    assert "'the_if' If opset 18 (it holds nodes that are not supported)" in message


def test_a_scan_of_opset_8_is_refused():
    message = refused(scanning(opset=8))
    assert "'the_scan' Scan opset 8 (Scan of opset 8 runs over a batch" in message


def test_half_precision_inside():
    half = TensorProto.FLOAT16
    first = [helper.make_node("Mul", ["x", "w"], ["p"])]
    second = [helper.make_node("Neg", ["x"], ["q"])]
    proto = model(
        [choice(first, second, "p", "q")], {"x": (half, [3, 4]), "c": (BOOL, [])},
        {"y": (half, None)}, {"w": normal(4).astype(np.float16)},
    )  # fmt: skip
    graph = load(proto)
    assert {v.type.dtype for v in graph.nodes[1].op.then_branch.values} == {"float32"}
    x = X.astype(np.float16)
    got = evaluate(graph, {"x": x, "c": np.asarray(False)})["y"]
    np.testing.assert_array_equal(got, -x)


@pytest.mark.parametrize(
    ("kind", "ins", "missing"),
    [
        ("If", ["c"], "then_branch"),
        ("Loop", ["n", "", "x"], "body"),
        ("Scan", ["x"], "body"),
    ],
)
def test_a_missing_graph_is_named(kind, ins, missing):
    attributes = {"num_scan_inputs": 1} if kind == "Scan" else {}
    inputs = {"x": (FLOAT, [3, 4]), "c": (BOOL, []), "n": (INT, [])}
    message = refused(model([node(kind, ins, ["y"], **attributes)], inputs, {"y": (FLOAT, None)}))
    assert f"({kind}, opset 18): attribute {missing} is missing" in message


def test_a_missing_branch_of_a_constant_condition_is_named():
    inputs, weights = {"x": (FLOAT, [3, 4])}, {"c": np.asarray(True)}
    message = refused(model([node("If", ["c"], ["y"])], inputs, {"y": (FLOAT, None)}, weights))
    assert "the branch that its condition takes is missing" in message
