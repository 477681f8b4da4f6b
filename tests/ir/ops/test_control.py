"""If, Loop and Scan: types, meaning, text, shapes bound later."""

from pathlib import Path

import numpy as np
import pytest

from qc.ir import Graph, TensorType, load, ops, save
from qc.ir.bind import bind
from qc.ir.errors import VerifyError
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify

F2 = TensorType("float32", (2,))
BOOL, INT = TensorType("bool", ()), TensorType("int64", ())


def branch(op, t=F2, name="branch"):
    """``op`` of the only input."""
    graph = Graph(name)
    graph.outputs = [graph.add(op, [graph.input("v", t)]).output]
    return graph


def counting_body(limit=100):
    """Adds the iteration to the state, yields it, and goes on while it is below ``limit``."""
    body = Graph("body")
    i, _ = body.input("i", INT), body.input("go", BOOL)
    state = body.input("state", INT)
    total = body.add(ops.Add(), [state, i]).output
    again = body.add(ops.Less(), [total, body.constant(np.asarray(limit))]).output
    body.outputs = [again, total, body.add(ops.Identity(), [total]).output]
    return body


def loop(trips, limit=100, first=True):
    graph = Graph("g")
    state = graph.input("s", INT)
    count = None if trips is None else graph.constant(np.asarray(trips))
    go = None if first is None else graph.constant(np.asarray(first))
    node = graph.add(ops.Loop(counting_body(limit), 1), [count, go, state])
    graph.outputs = list(node.outputs)
    verify(graph)
    return list(evaluate(graph, {"s": np.asarray(0)}).values())


def scan(length="n"):
    """A running sum of ``x [n, 2]``, scaled by a captured value."""
    body = Graph("body")
    state, x, factor = (body.input(n, F2) for n in ("state", "x", "factor"))
    scaled = body.add(ops.Mul(), [x, factor]).output
    total = body.add(ops.Add(), [state, scaled]).output
    body.outputs = [total, body.add(ops.Neg(), [total]).output]
    graph = Graph("g")
    ins = [graph.input("s", F2), graph.input("x", TensorType("float32", (length, 2)))]
    ins.append(graph.input("f", F2))
    graph.outputs = list(graph.add(ops.Scan(body, 1, 1), ins).outputs)
    verify(graph)
    return graph


@pytest.mark.parametrize(("condition", "expected"), [(True, [0, 2]), (False, [1, -2])])
def test_if_takes_a_branch(condition, expected):
    graph = Graph("g")
    ins = [graph.input("c", BOOL), graph.input("x", F2)]
    graph.outputs = [graph.add(ops.If(branch(ops.Relu()), branch(ops.Neg())), ins).output]
    verify(graph)
    feed = {"c": np.asarray(condition), "x": np.array([-1, 2], np.float32)}
    (y,) = evaluate(graph, feed).values()
    assert y.tolist() == expected


def test_branches_may_differ_in_a_dimension_but_not_in_rank():
    graph = Graph("g")
    ins = [graph.input("c", BOOL), graph.input("x", F2)]
    first = branch(ops.Slice((0,), (1,)), name="first")
    node = graph.add(ops.If(first, branch(ops.Neg())), ins)
    assert node.output.type.shape == ("first.slice.0",)
    graph.outputs = [node.output]
    for condition, count in ((True, 1), (False, 2)):
        feed = {"c": np.asarray(condition), "x": np.ones(2, np.float32)}
        assert evaluate(graph, feed)[node.output.name].shape == (count,)
    with pytest.raises(VerifyError, match="the branches give"):
        graph.add(ops.If(branch(ops.Unsqueeze((0,))), branch(ops.Neg())), ins)


def test_captures_must_fit_the_inner_graph():
    graph = Graph("g")
    c, x = graph.input("c", BOOL), graph.input("x", TensorType("float32", (3,)))
    both = (branch(ops.Relu()), branch(ops.Neg()))
    with pytest.raises(VerifyError, match=r"float32\[3\] cannot be input"):
        graph.add(ops.If(*both), [c, x])
    with pytest.raises(VerifyError, match="takes 1 values, not 0"):
        graph.add(ops.If(*both), [c])
    with pytest.raises(VerifyError, match="is not a bool"):
        graph.add(ops.If(*both), [x, x])


@pytest.mark.parametrize(
    ("trips", "limit", "first", "expected"),
    [
        (4, 100, True, [0, 1, 3, 6]),
        (4, 3, True, [0, 1, 3]),
        (None, 3, None, [0, 1, 3]),
        (4, 100, False, []),
        (0, 100, None, []),
    ],
)
def test_loop(trips, limit, first, expected):
    final, steps = loop(trips, limit, first)
    assert final == (expected[-1] if expected else 0)
    assert steps.tolist() == expected
    assert steps.dtype == np.int64


def test_a_state_that_changes_its_type_is_an_error():
    body = Graph("body")
    i, go, state = body.input("i", INT), body.input("go", BOOL), body.input("s", F2)
    body.outputs = [go, body.add(ops.Slice((0,), (1,)), [state]).output]
    graph = Graph("g")
    with pytest.raises(VerifyError, match="changes its type"):
        graph.add(ops.Loop(body, 1), [None, None, graph.input("s", F2)])
    assert i.type == INT


def test_scan_runs_along_the_first_axis():
    graph = scan()
    feed = {
        "s": np.float32([1, 0]), "x": np.arange(6, dtype=np.float32).reshape(3, 2),
        "f": np.float32([1, 2]),
    }  # fmt: skip
    final, steps = evaluate(graph, feed).values()
    expected = feed["s"] + np.cumsum(feed["x"] * feed["f"], 0)
    np.testing.assert_array_equal(steps, -expected)
    np.testing.assert_array_equal(final, expected[-1])


def test_binding_reaches_inner_graphs():
    body = Graph("body")
    state = body.input("s", TensorType("float32", ("batch", 2)))
    x = body.input("x", TensorType("float32", ("batch", 2)))
    total = body.add(ops.Add(), [state, x]).output
    body.outputs = [total, body.add(ops.Identity(), [total]).output]
    graph = Graph("g")
    ins = [graph.input("s", TensorType("float32", ("batch", 2)))]
    ins.append(graph.input("x", TensorType("float32", (5, "batch", 2))))
    graph.outputs = list(graph.add(ops.Scan(body, 1, 1), ins).outputs)
    bound = bind(graph, {"batch": 3})
    verify(bound)
    assert [v.type.shape for v in bound.outputs] == [(3, 2), (5, 3, 2)]
    assert [v.type.shape for v in bound.nodes[0].op.body.inputs] == [(3, 2)] * 2
    assert [v.type.shape for v in graph.nodes[0].op.body.inputs] == [("batch", 2)] * 2


def test_graphs_inside_graphs_are_saved_with_their_constants(tmp_path: Path):
    inner = Graph("inner")
    x = inner.input("v", F2)
    weights = inner.constant(np.arange(40, dtype=np.float32).reshape(2, 20), "w")
    inner.outputs = [inner.add(ops.MatMul(), [x, weights]).output]
    outer = Graph("outer")
    flag, v = outer.input("c", BOOL), outer.input("v", F2)
    outer.outputs = [outer.add(ops.If(inner, inner), [flag, v]).output]
    graph = Graph("g")
    ins = [graph.input("c", BOOL), graph.input("d", BOOL), graph.input("x", F2)]
    graph.outputs = [graph.add(ops.If(outer, outer), ins).output]
    save(graph, tmp_path)
    again = load(tmp_path)
    verify(again)
    assert again == graph
    feed = {"c": np.asarray(True), "d": np.asarray(False), "x": np.ones(2, np.float32)}
    (want,), (got,) = evaluate(graph, feed).values(), evaluate(again, feed).values()
    np.testing.assert_array_equal(got, want)


def test_the_verifier_looks_inside():
    graph = Graph("g")
    ins = [graph.input("c", BOOL), graph.input("x", F2)]
    inner = branch(ops.Relu())
    graph.outputs = [graph.add(ops.If(inner, inner), ins).output]
    inner.nodes[0].op = ops.Unsqueeze((0,))
    with pytest.raises(VerifyError, match="Unsqueeze"):
        verify(graph)
