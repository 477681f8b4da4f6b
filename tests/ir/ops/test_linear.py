"""QuantizeLinear and DequantizeLinear with scales known at run time."""

import numpy as np
import pytest

from qc.ir import ops
from qc.ir.graph import Graph
from qc.ir.types import type_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 8)).astype(np.float32)

SCALE = np.array(0.02, np.float32)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_per_tensor_agrees(agree, dtype):
    zero = np.array(3, dtype)
    (q,) = agree(ops.QuantizeLinear(dtype=dtype), X, SCALE, zero)
    agree(ops.DequantizeLinear(), q, SCALE, zero)


def test_per_axis_agrees(agree):
    scale, zero = np.float32([0.1, 0.02, 0.5]), np.array([1, 200, 0], np.uint8)
    (q,) = agree(ops.QuantizeLinear(axis=0), X, scale, zero)
    agree(ops.DequantizeLinear(axis=-2), q, scale, zero)


def test_blocks_agree(agree):
    scale = np.abs(RNG.normal(size=(3, 2)).astype(np.float32)) / 50 + 0.01
    zero = RNG.integers(0, 255, (3, 2)).astype(np.uint8)
    (q,) = agree(ops.QuantizeLinear(axis=1, block_size=4), X, scale, zero)
    agree(ops.DequantizeLinear(axis=1, block_size=4), q, scale, zero)


def test_codes_of_four_bits():
    op = ops.QuantizeLinear(dtype="int4")
    (q,) = op.eval([np.array([[-9, 2.4, 9]], np.float32), np.float32(1), None])
    assert q.dtype.name == "int4"
    assert q.astype(np.int32).tolist() == [[-8, 2, 7]]


def test_codes_that_are_floats():
    op = ops.QuantizeLinear(dtype="float8_e4m3fn")
    (q,) = op.eval([np.array([[1.06, 9000]], np.float32), np.float32(1), None])
    assert q.astype(np.float32).tolist() == [[1, 448]]


def test_codes_are_not_quantized_again():
    graph = Graph("g")
    q = graph.input("q", type_of(np.zeros(2, np.uint8)))
    with pytest.raises(Exception, match="quantizes reals"):
        graph.add(ops.QuantizeLinear(), [q, graph.constant(np.float32(1))])
