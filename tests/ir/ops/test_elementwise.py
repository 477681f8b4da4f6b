"""Arithmetic against onnxruntime."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from qc.ir import ops
from qc.ir.errors import VerifyError
from qc.ir.graph import Graph
from qc.ir.types import TensorType

X = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)
POSITIVE = np.abs(X) + np.float32(0.1)
COLUMN = np.array([[0.5], [-2], [3]], np.float32)


@pytest.mark.parametrize(
    "op",
    [
        ops.Exp(),
        ops.Neg(),
        ops.Abs(),
        ops.Sign(),
        ops.Floor(),
        ops.Ceil(),
        ops.Round(),
        ops.Sin(),
        ops.Cos(),
        ops.Identity(),
        ops.Reciprocal(),
    ],
)
def test_unary(agree, op):
    agree(op, X)


@pytest.mark.parametrize("op", [ops.Log(), ops.Sqrt()])
def test_unary_of_positive(agree, op):
    agree(op, POSITIVE)


def test_round_takes_halves_to_even(agree):
    (y,) = agree(ops.Round(), np.array([0.5, 1.5, -0.5, -2.5], np.float32))
    assert y.tolist() == [0, 2, 0, -2]


@pytest.mark.parametrize("op", [ops.Add(), ops.Sub(), ops.Mul(), ops.Div(), ops.PRelu()])
def test_binary_broadcasts(agree, op):
    agree(op, X, COLUMN)


@pytest.mark.parametrize("op", [ops.Min(), ops.Max(), ops.Sum(), ops.Mean()])
def test_variadic(agree, op):
    agree(op, X, COLUMN, POSITIVE)


def test_integers_divide_towards_zero(agree):
    a, b = np.array([7, -7, 7, -7], np.int64), np.array([2, 2, -2, -2], np.int64)
    assert agree(ops.Div(), a, b)[0].tolist() == [3, -3, -3, 3]


def test_pow(agree):
    agree(ops.Pow(), POSITIVE, COLUMN)
    agree(ops.Pow(), np.array([2, 3], np.int64), np.array([3, 2], np.int64))


@pytest.mark.parametrize("fmod", [False, True])
def test_mod(agree, fmod):
    a, b = np.array([7, -7, 7, -7], np.int64), np.array([3, 3, -3, -3], np.int64)
    agree(ops.Mod(fmod), a, b)


@pytest.mark.parametrize(
    "bounds", [(-1.0, 2.0), (None, 1.0), (0.0, None), (None, None), (2.0, -1.0)]
)
def test_clip(agree, bounds):
    agree(ops.Clip(*bounds), X)


@pytest.mark.parametrize("to", ["int64", "bool", "float64", "uint8", "float16"])
def test_cast(agree, to):
    agree(ops.Cast(to), np.abs(X))


def test_where(agree):
    agree(ops.Where(), X > 0, X, COLUMN)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mutually_broadcastable_shapes(num_shapes=2, min_side=1, max_side=4, max_dims=4), st.data())
def test_any_shapes_that_broadcast(agree, shapes, data):
    seed = data.draw(st.integers(0, 99))
    a, b = (
        np.random.default_rng(seed).normal(size=s).astype(np.float32) for s in shapes.input_shapes
    )
    assert agree(ops.Add(), a, b)[0].shape == shapes.result_shape


def test_mixed_element_types_are_refused():
    graph = Graph()
    a, b = (
        graph.input("a", TensorType("float32", (2,))),
        graph.input("b", TensorType("int64", (2,))),
    )
    with pytest.raises(VerifyError, match="element types differ"):
        graph.add(ops.Add(), [a, b])
