"""Shapes and order of axes against onnxruntime."""

import numpy as np
import pytest

from qc.ir import ops
from qc.ir.errors import VerifyError
from qc.ir.graph import Graph
from qc.ir.types import TensorType

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "op",
    [
        ops.Reshape((0, -1)),
        ops.Reshape((4, 0, 2)),
        ops.Flatten(2),
        ops.Flatten(0),
        ops.Flatten(3),
        ops.Transpose((2, 0, 1)),
        ops.Unsqueeze((0, -1)),
        ops.Expand((5, 1, 3, 1)),
        ops.Tile((1, 2, 3)),
        ops.Shape(),
        ops.Shape(1, -1),
        ops.Size(),
        ops.Split(2, (1, 3)),
        ops.Split(-2, (1, 1, 1)),
    ],
    ids=lambda op: f"{op.name}{list(op.attributes().values())}",
)
def test_of_one_operand(agree, op):
    x = X.reshape(2, 3, 4)
    agree(op, x)


def test_squeeze(agree):
    agree(ops.Squeeze((0, -1)), X.reshape(1, 6, 4, 1))
    agree(ops.Squeeze(), X.reshape(1, 6, 4, 1))


@pytest.mark.parametrize("axis", [0, -1])
def test_concat(agree, axis):
    agree(ops.Concat(axis), X, X + 1, X)


def test_allowzero(agree):
    agree(ops.Reshape((0, 3), True), np.zeros((3, 0), np.float32))


def test_dynamic_shapes(agree):
    agree(ops.Reshape(), X, np.array([4, -1], np.int64))
    agree(ops.Expand(), X[:, :, :1], np.array([2, 3, 5], np.int64))
    agree(ops.Tile(), X, np.array([1, 2, 1], np.int64))
    agree(ops.ConstantOfShape(7, "int64"), np.array([2, 3], np.int64))


def test_constant_of_shape(agree):
    assert agree(ops.ConstantOfShape(1.5, "float32", (2, 3)))[0].tolist() == [[1.5] * 3] * 2


def test_range(agree):
    agree(ops.Range(), *(np.array(v, np.int64) for v in (3, 11, 2)))
    agree(ops.Range(), *(np.array(v, np.float32) for v in (3, -1, -0.5)))


@pytest.mark.parametrize(
    ("shape", "target", "result"),
    [
        (("n", 3, 4), (0, -1), ("n", 12)),
        (("n", 3, 4), (-1, 12), ("n", 12)),
        (("n", "t", 4), (-1, 4), ("n*t", 4)),
        (("n", "t", 4), (0, -1, 2, 2), ("n", "t", 2, 2)),
        (("2*n", 4), (-1, 8), ("n", 8)),
    ],
)
def test_reshape_follows_symbols(shape, target, result):
    graph = Graph()
    x = graph.input("x", TensorType("float32", shape))
    assert graph.add(ops.Reshape(target), [x]).output.type.shape == result


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (ops.Reshape((5, -1)), "no multiple"),
        (ops.Reshape((2, 13)), "cannot reshape"),
        (ops.Transpose((0, 1)), "does not permute"),
        (ops.Squeeze((1,)), "cannot squeeze"),
        (ops.Split(0, (1, 2)), "do not make up"),
        (ops.Expand((5, 3, 4)), "cannot expand"),
    ],
)
def test_wrong_attributes_are_refused(op, message):
    graph = Graph()
    with pytest.raises(VerifyError, match=message):
        graph.add(op, [graph.input("x", TensorType("float32", (2, 3, 4)))])
