"""Activation functions against onnxruntime."""

import numpy as np
import pytest

from qc.ir import ops

X = np.linspace(-6, 6, 49, dtype=np.float32)


@pytest.mark.parametrize(
    "op",
    [
        ops.Relu(),
        ops.LeakyRelu(0.2),
        ops.Elu(0.7),
        ops.Selu(),
        ops.Celu(1.5),
        ops.Sigmoid(),
        ops.ThresholdedRelu(0.5),
        ops.HardSigmoid(0.25, 0.4),
        ops.HardSwish(),
        ops.Silu(),
        ops.Tanh(),
        ops.Softplus(),
        ops.Softsign(),
        ops.Mish(),
        ops.Gelu(),
        ops.Gelu("tanh"),
        ops.Erf(),
    ],
    ids=lambda op: op.name,
)
def test_activation(agree, op):
    agree(op, X, atol=3e-6)


def test_sigmoid_does_not_overflow():
    with np.errstate(over="raise"):
        (y,) = ops.Sigmoid().eval([np.array([-200, 200], np.float32)])
    assert y.tolist() == [0, 1]
