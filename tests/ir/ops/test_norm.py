"""Normalisations and softmax against onnxruntime."""

import numpy as np
import pytest

from qc.ir import ops
from qc.ir.errors import VerifyError
from qc.ir.graph import Graph
from qc.ir.types import TensorType

RNG = np.random.default_rng(0)
X = RNG.normal(2, 3, (2, 4, 3, 5)).astype(np.float32)
C = [RNG.normal(size=4).astype(np.float32) for _ in range(3)]
LAST = [RNG.normal(size=5).astype(np.float32) for _ in range(2)]


def test_batch_normalization(agree):
    agree(ops.BatchNormalization(1e-3), X, *C, np.abs(C[0]) + 1, rtol=1e-4)


def test_instance_normalization(agree):
    agree(ops.InstanceNormalization(1e-4), X, C[0], C[1], rtol=1e-4, atol=1e-5)


def test_group_normalization(agree):
    agree(ops.GroupNormalization(2, 1e-4), X, C[0], C[1], rtol=1e-4, atol=1e-5)


def test_layer_normalization(agree):
    agree(ops.LayerNormalization(-1, 1e-5), X, *LAST, rtol=1e-4, atol=1e-5)
    agree(ops.LayerNormalization(2, 1e-5), X, X[0, 0], rtol=1e-4, atol=1e-5)


def test_rms_normalization(agree):
    agree(ops.RMSNormalization(-1, 1e-5), X, LAST[0], rtol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_lrn(agree, size):
    agree(ops.LRN(size, 0.1, 0.6, 2.0), X)


@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization(agree, p):
    agree(ops.LpNormalization(1, p), X)


@pytest.mark.parametrize("op", [ops.Softmax, ops.LogSoftmax, ops.Hardmax])
@pytest.mark.parametrize("axis", [-1, 0, 2])
def test_softmax(agree, op, axis):
    agree(op(axis), X * 20)


def test_wrong_channels_are_refused():
    graph = Graph()
    ins = [
        graph.input(f"x{i}", TensorType("float32", s))
        for i, s in enumerate([(1, 4, 2), *[(3,)] * 4])
    ]
    with pytest.raises(VerifyError, match="not one number per channel"):
        graph.add(ops.BatchNormalization(), ins)
