"""Comparisons, logic, bits and seldom functions against onnxruntime."""

import numpy as np
import pytest

from qc.ir import ops

A = np.array([-1, 0, 0.5, 0.5, 1], np.float32)
B = np.array([0, 0, 0.5, -0.5, 2], np.float32)
BYTES = np.array([1, 2, 200, 255], np.uint8)


@pytest.mark.parametrize(
    "op", [ops.Equal(), ops.Greater(), ops.Less(), ops.GreaterOrEqual(), ops.LessOrEqual()]
)
def test_comparison(agree, op):
    assert agree(op, A, B)[0].dtype == np.bool_


@pytest.mark.parametrize("op", [ops.And(), ops.Or(), ops.Xor()])
def test_logic(agree, op):
    agree(op, A > 0, B > 0)


def test_not(agree):
    agree(ops.Not(), A > 0)


@pytest.mark.parametrize("op", [ops.IsNaN(), ops.IsInf(), ops.IsInf(False, True)])
def test_predicate(agree, op):
    agree(op, np.array([np.nan, np.inf, -np.inf, 1], np.float32))


@pytest.mark.parametrize("op", [ops.BitwiseAnd(), ops.BitwiseOr(), ops.BitwiseXor()])
def test_bits(agree, op):
    agree(op, BYTES, BYTES[::-1].copy())


def test_bitwise_not(agree):
    agree(ops.BitwiseNot(), BYTES)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_bit_shift(agree, direction):
    agree(ops.BitShift(direction), BYTES, np.array([1, 0, 2, 3], np.uint8))


@pytest.mark.parametrize(
    "op", [ops.Tan(), ops.Asin(), ops.Acos(), ops.Atan(), ops.Sinh(), ops.Cosh(), ops.Asinh()]
)
def test_seldom(agree, op):
    agree(op, A)


def test_seldom_of_a_range(agree):
    agree(ops.Acosh(), np.array([1, 1.5, 3], np.float32))
    agree(ops.Atanh(), np.array([-0.5, 0, 0.9], np.float32))
