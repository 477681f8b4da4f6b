"""Columns to images, pooling with places and back, against onnxruntime."""

import numpy as np
import pytest

from qc.ir import Graph, ops, parse
from qc.ir.errors import VerifyError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 7, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("strides", "pads", "dilations"),
    [(None, None, None), ((2, 1), (1, 0, 1, 0), None), (None, None, (2, 1))],
)
def test_columns_to_images(agree, strides, pads, dilations):
    s, p, d = strides or (1, 1), pads or (0,) * 4, dilations or (1, 1)
    counts = [
        (n + p[i] + p[i + 2] - d[i] * (k - 1) - 1) // s[i] + 1
        for i, (n, k) in enumerate(((6, 3), (5, 2)))
    ]
    columns = RNG.normal(size=(2, 3 * 6, int(np.prod(counts)))).astype(np.float32)
    agree(ops.Col2Im((6, 5), (3, 2), strides, pads, dilations), columns)


def test_columns_of_another_size_are_named():
    graph = Graph("g")
    with pytest.raises(VerifyError, match="no columns of 4 elements"):
        graph.add(ops.Col2Im((4, 4), (2, 2)), [graph.constant(X[:, :, :, 0])])


@pytest.mark.parametrize(
    "pool",
    [
        ops.MaxPool((2, 2), (2, 2)),
        ops.MaxPool((3, 2), (1, 1), (1, 0, 1, 1)),
        ops.MaxPool((2, 2), (1, 1), (0, 0, 0, 0), (2, 2)),
        ops.MaxPool((3, 3), (2, 2), (1, 1, 1, 1), ceil_mode=True),
    ],
)
def test_places_of_the_greatest(agree, pool):
    values, places = agree(ops.MaxPoolIndices(pool), X)
    np.testing.assert_array_equal(X.ravel()[places], values)


def test_of_equals_the_first_is_remembered():
    _, places = ops.MaxPoolIndices(ops.MaxPool((2, 2))).eval([np.ones((1, 1, 2, 3), np.float32)])
    assert places.ravel().tolist() == [0, 1]


def test_places_column_by_column(agree):
    agree(ops.MaxPoolIndices(ops.MaxPool((2, 2), (2, 2)), 1), X)


def test_unpooling(agree):
    values, places = ops.MaxPoolIndices(ops.MaxPool((2, 2), (2, 2))).eval([X[:, :, :6]])
    (y,) = agree(ops.MaxUnpool((2, 2), (2, 2)), values, places)
    assert y.shape == (2, 3, 6, 6)
    (wide,) = ops.MaxUnpool((2, 2), (2, 2), None, (2, 3, 8, 7)).eval([values, places])
    np.testing.assert_array_equal(wide[:, :, :6, :6], y)
    assert not wide[:, :, 6:].any()
    assert not wide[..., 6:].any()


def test_an_op_in_an_op_round_trips():
    graph = Graph("g")
    x = graph.constant(X[:1, :1, :2, :2])
    graph.outputs = list(graph.add(ops.MaxPoolIndices(ops.MaxPool((2, 2))), [x]).outputs)
    assert str(parse(str(graph))) == str(graph)
