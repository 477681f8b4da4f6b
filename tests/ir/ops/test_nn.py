"""Convolutions, products and pooling against onnxruntime."""

import numpy as np
import pytest

from qc.ir import ops
from qc.ir.errors import VerifyError
from qc.ir.graph import Graph
from qc.ir.types import TensorType


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("op", "x", "w"),
    [
        (ops.Conv(), (2, 3, 5, 6), (4, 3, 3, 3)),
        (ops.Conv((2, 1), (1, 0, 2, 1), (1, 2)), (1, 3, 7, 6), (4, 3, 3, 2)),
        (ops.Conv((1, 1), (1, 1, 1, 1), (1, 1), 4), (1, 4, 5, 5), (4, 1, 3, 3)),
        (ops.Conv((2, 2), (1, 1, 1, 1), (1, 1), 2), (1, 4, 5, 5), (6, 2, 3, 3)),
        (ops.Conv((1, 1), (0, 0, 0, 0), (1, 1), 4), (1, 4, 5, 5), (8, 1, 3, 3)),
        (ops.Conv((2,), (2, 1), (1,), 1), (1, 3, 9), (4, 3, 3)),
        (ops.Conv((1, 1, 1), (0,) * 6, (1, 1, 1)), (1, 2, 4, 4, 4), (3, 2, 2, 2, 2)),
    ],
)
def test_conv(agree, op, x, w):
    agree(op, normal(*x), normal(*w), normal(w[0]), constants=(1, 2))
    agree(op, normal(*x), normal(*w))


@pytest.mark.parametrize(
    ("op", "w"),
    [
        (ops.ConvTranspose(), (4, 3, 3, 3)),
        (ops.ConvTranspose((2, 3), (1, 0, 1, 2), (1, 1), (1, 0)), (4, 3, 3, 4)),
        (ops.ConvTranspose((2, 2), (0, 0, 0, 0), (2, 1), (0, 0), 2), (4, 3, 3, 3)),
    ],
)
def test_conv_transpose(agree, op, w):
    agree(op, normal(2, 4, 5, 4), normal(*w), normal(w[1] * op.group))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 1, 2, 3), (4, 3, 2)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
    ],
)
def test_matmul(agree, a, b):
    agree(ops.MatMul(), normal(*a), normal(*b))


@pytest.mark.parametrize(
    "op", [ops.Gemm(), ops.Gemm(0.5, 2.0), ops.Gemm(1, 1, True, False), ops.Gemm(1, 1, False, True)]
)
@pytest.mark.parametrize("c", [(4,), (2, 1), None])
def test_gemm(agree, op, c):
    a = normal(3, 2) if op.trans_a else normal(2, 3)
    b = normal(4, 3) if op.trans_b else normal(3, 4)
    agree(op, a, b, *([] if c is None else [normal(*c)]))


@pytest.mark.parametrize("op", [ops.Gemm(), ops.Gemm(0.5, 2.0), ops.Gemm(1, 1, False, True)])
@pytest.mark.parametrize("c", [(4,), (2, 1), (5, 1, 4), None])
def test_gemm_of_more_than_a_matrix(agree, op, c):
    """Which ONNX writes as a product and a sum."""
    b = normal(4, 3) if op.trans_b else normal(3, 4)
    agree(op, normal(5, 2, 3), b, *([] if c is None else [normal(*c)]))


WINDOWS = [
    ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), False),
    ((2, 3), (1, 2), (0, 1, 1, 0), (1, 1), False),
    ((3, 3), (2, 2), (0, 0, 0, 0), (1, 1), True),
    ((2, 2), (2, 2), (0, 0, 0, 0), (2, 1), False),
    ((2, 2), (3, 3), (0, 0, 1, 1), (1, 1), True),
]


@pytest.mark.parametrize("window", WINDOWS)
def test_max_pool(agree, window):
    agree(ops.MaxPool(*window), normal(1, 2, 7, 8))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("include", [False, True])
def test_average_pool(agree, window, include):
    agree(ops.AveragePool(*window, include), normal(1, 2, 7, 8))


def test_lp_pool(agree):
    agree(ops.LpPool((2, 2), (1, 1), (0, 0, 0, 0), (1, 1), False, 3), normal(1, 2, 5, 5))


@pytest.mark.parametrize("op", [ops.GlobalAveragePool(), ops.GlobalMaxPool()])
def test_global_pool(agree, op):
    agree(op, normal(2, 3, 4, 5))


def test_symbolic_sizes_give_the_same_symbol_for_the_same_formula():
    graph = Graph()
    x = graph.input("x", TensorType("float32", ("n", 3, "h", 8)))
    a = graph.add(ops.Conv((2, 2), (1, 1, 1, 1)), [x, graph.constant(normal(4, 3, 3, 3))]).output
    b = graph.add(ops.Conv((2, 2)), [x, graph.constant(normal(4, 3, 1, 1))]).output
    assert a.type.shape == b.type.shape
    assert a.type.shape[0] == "n"
    assert a.type.shape[3] == 4


@pytest.mark.parametrize(
    ("op", "shapes", "message"),
    [
        (ops.Conv(), [(1, 3, 5, 5), (4, 2, 3, 3)], "does not match"),
        (ops.Conv(), [(1, 3, 2, 5), (4, 3, 3, 3)], "exceeds the padded size"),
        (ops.Conv(), [(1, 3, 5), (4, 3, 3, 3)], "do not fit"),
        (ops.MatMul(), [(2, 3), (4, 2)], "do not multiply"),
        (ops.Gemm(), [(2, 3), (3, 2), (3,)], "does not broadcast|do not broadcast"),
        (ops.Gemm(trans_a=True), [(4, 2, 3), (2, 2)], "are not two matrices"),
    ],
)
def test_wrong_shapes_are_refused(op, shapes, message):
    graph = Graph()
    ins = [graph.input(f"x{i}", TensorType("float32", s)) for i, s in enumerate(shapes)]
    with pytest.raises(VerifyError, match=message):
        graph.add(op, ins)
