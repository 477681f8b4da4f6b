"""Picking, placing and padding against onnxruntime."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from qc.ir import ops
from qc.ir.graph import Graph
from qc.ir.types import TensorType

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(-6, 6),
    st.one_of(st.integers(-6, 6), st.just(2**63 - 1)),
    st.sampled_from([1, 2, -1, -2]),
)
def test_slice(agree, start, end, step):
    assume(step > 0 or end < 2**31)
    agree(ops.Slice((start,), (end,), (2,), (step,)), X)


@pytest.mark.parametrize(
    ("start", "end", "result"), [(-5, -5, [0]), (9, -9, [3, 2, 1, 0]), (1, 2, [])]
)
def test_slice_backwards_clamps_as_onnx_says(agree, start, end, result):
    (y,) = agree(ops.Slice((start,), (end,), (0,), (-1,)), np.arange(4, dtype=np.float32))
    assert y.tolist() == result


def test_slice_backwards_to_the_beginning(agree):
    (y,) = agree(ops.Slice((-1,), (-(2**63),), (1,), (-1,)), X)
    assert (y == X[:, ::-1]).all()


def test_dynamic_slice(agree):
    v = [np.array([i], np.int64) for i in (1, 3, 2, 1)]
    agree(ops.Slice(), X, *v, constants=(3,))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pad(agree, mode):
    agree(ops.Pad((0, 1, 2, 0, 0, 1), mode, 1.5 if mode == "constant" else 0.0), X)


def test_negative_pad_cuts(agree):
    assert agree(ops.Pad((0, -1, 0, 0, 0, 2)), X)[0].shape == (2, 2, 6)


def test_gather(agree):
    agree(ops.Gather(1), X, np.array([[0, -1], [2, 1]], np.int64))
    agree(ops.Gather(-1), X, np.array(2, np.int64))


def test_gather_elements(agree):
    agree(ops.GatherElements(1), X, np.array([[[0, 1, 2, -1]], [[2, 0, 0, 1]]], np.int64))


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_gather_nd(agree, batch_dims):
    agree(ops.GatherND(batch_dims), X, np.array([[[0, 1]], [[1, 2]]], np.int64))


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max"])
def test_scatter(agree, reduction):
    indices = np.array([[[0, 1, 2, 1]], [[2, 0, 0, 1]]], np.int64)
    agree(ops.ScatterElements(1, reduction), X, indices, np.full((2, 1, 4), 2, np.float32))
    updates = np.ones((2, 4), np.float32)
    agree(ops.ScatterND(reduction), X, np.array([[0, 1], [1, 2]], np.int64), updates)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(agree, axis):
    indices = np.array([[0, 2], [-1, 5]], np.int64)
    agree(ops.OneHot(3, axis), indices, np.array([-1, 4], np.float32))


def test_non_zero(agree):
    agree(ops.NonZero(), np.array([[0, 1], [2, 0]], np.float32))


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("k", [-1, 0, 2])
def test_trilu(agree, upper, k):
    agree(ops.Trilu(upper, k), X)


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (ops.Slice((0,), (2**31 - 1,), (0,)), ("n", 4)),
        (ops.Slice((1,), (2**31 - 1,), (0,)), ("(n-1)", 4)),
        (ops.Slice((-3,), (2**63 - 1,), (0,)), (3, 4)),
        (ops.Pad((1, 0, 1, 0)), ("(n+2)", 4)),
    ],
)
def test_symbols(op, shape):
    graph = Graph()
    x = graph.input("x", TensorType("float32", ("n", 4)))
    assert graph.add(op, [x]).output.type.shape == shape
