"""MatMulInteger and ConvInteger against onnxruntime."""

import numpy as np
import pytest

from qc.ir import Graph, ops
from qc.ir.errors import VerifyError

RNG = np.random.default_rng(0)


def codes(dtype, *shape):
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)


@pytest.mark.parametrize("b_type", ["uint8", "int8"])
@pytest.mark.parametrize("zeros", ["none", "numbers", "columns"])
def test_matmul(agree, zeros, b_type):
    """onnxruntime saturates sums of uint8 times int8 on some machines; there numpy judges alone."""
    a, b = codes("uint8", 2, 3, 5), codes(b_type, 5, 4)
    more = {
        "none": [], "numbers": [np.array(9, np.uint8), np.array(3, b_type)],
        "columns": [np.array(9, np.uint8), codes(b_type, 4)],
    }[zeros]  # fmt: skip
    za, zb = more or (0, 0)
    (y,) = ops.MatMulInteger().eval([a, b, *more])
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, (a.astype(np.int64) - za) @ (b.astype(np.int64) - zb))
    if b_type == "uint8":
        agree(ops.MatMulInteger(), a, b, *more)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_conv(agree, group):
    x, w = codes("uint8", 1, 4, 6, 5), codes("uint8", 8, 4 // group, 3, 3)
    op = ops.ConvInteger((2, 1), (1, 1, 1, 1), (1, 1), group)
    agree(op, x, w, np.array(100, np.uint8), np.array(7, np.uint8))


def test_what_is_padded_is_zero():
    x, w = np.full((1, 1, 1, 1), 7, np.uint8), np.ones((1, 1, 3, 3), np.int8)
    (y,) = ops.ConvInteger(pads=(1, 1, 1, 1)).eval([x, w, np.array(7, np.uint8)])
    assert not y.any()


def test_only_codes_of_eight_bits():
    graph = Graph("g")
    a = graph.constant(np.ones((2, 2), np.int16))
    with pytest.raises(VerifyError, match="codes of 8 bits"):
        graph.add(ops.MatMulInteger(), [a, a])
