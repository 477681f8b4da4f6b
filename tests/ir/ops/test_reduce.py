"""Reductions, sorting and Einsum against onnxruntime."""

import numpy as np
import pytest

from qc.ir import ops
from qc.ir.errors import VerifyError
from qc.ir.graph import Graph
from qc.ir.types import TensorType

X = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize(
    "op",
    [
        ops.ReduceMean,
        ops.ReduceSum,
        ops.ReduceMax,
        ops.ReduceMin,
        ops.ReduceProd,
        ops.ReduceL1,
        ops.ReduceL2,
        ops.ReduceSumSquare,
        ops.ReduceLogSum,
        ops.ReduceLogSumExp,
    ],
)
@pytest.mark.parametrize(("axes", "keepdims"), [((1,), True), ((0, -1), False), (None, True)])
def test_reduce(agree, op, axes, keepdims):
    agree(op(axes, keepdims), np.abs(X) + np.float32(0.1))


@pytest.mark.parametrize("op", [ops.ArgMax, ops.ArgMin])
@pytest.mark.parametrize("last", [False, True])
def test_arg(agree, op, last):
    agree(op(1, False, last), np.round(X))
    agree(op(-1, True, last), np.round(X))


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cum_sum(agree, exclusive, reverse):
    agree(ops.CumSum(1, exclusive, reverse), X)


@pytest.mark.parametrize("largest", [False, True])
def test_top_k_with_ties(agree, largest):
    agree(ops.TopK(2, 1, largest), np.round(X))
    agree(ops.TopK(30, 0, largest), np.arange(60, dtype=np.float32) % 3)


@pytest.mark.parametrize("equation", ["abc,acd->abd", "abc,acd->ad", "abc,acd->bd"])
def test_einsum(agree, equation):
    agree(ops.Einsum(equation), X, X.transpose(0, 2, 1).copy(), atol=1e-5)


def test_too_many_elements_are_refused():
    graph = Graph()
    with pytest.raises(VerifyError, match="has no 5 elements"):
        graph.add(ops.TopK(5), [graph.input("x", TensorType("float32", (2, 4)))])
