"""Types of eight bits and fewer: conversion, bits, and files."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from qc.ir import Graph, TensorType, load, ops, save
from qc.ir.evaluate import evaluate
from qc.ir.ops.narrow import convert
from qc.ir.types import NARROW
from qc.ir.verify import verify

VALUES = np.array([0.3, 1.0625, -7.9, 1e6, -1e6, np.inf], np.float32)


@pytest.mark.parametrize("to", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"])
def test_float8_saturates_or_not(to):
    greatest = float(ml_dtypes.finfo(to).max)
    clipped = convert(VALUES, to).astype(np.float32)
    assert clipped[3:].tolist() == [greatest, -greatest, greatest]
    loose = convert(VALUES, to, saturate=False).astype(np.float32)
    assert not np.isfinite(loose[3:]).any()
    np.testing.assert_array_equal(loose[:3], clipped[:3])


@pytest.mark.parametrize(
    ("mode", "expected"), [("up", [2, 4, 8]), ("down", [2, 2, 4]), ("nearest", [2, 4, 8])]
)
def test_scales_are_powers_of_two(mode, expected):
    x = np.array([2, 3, 6], np.float32)
    found = convert(x, "float8_e8m0fnu", round_mode=mode)
    assert found.astype(np.float32).tolist() == expected


def test_a_scale_beyond_the_greatest_saturates_or_is_nan():
    x = np.array([np.finfo(np.float32).max], np.float32)
    assert convert(x, "float8_e8m0fnu").astype(np.float32)[0] == 2.0**127
    assert np.isnan(convert(x, "float8_e8m0fnu", saturate=False).astype(np.float32)[0])


def test_cast_there_and_back():
    graph = Graph("g")
    x = graph.input("x", TensorType("float32", (3,)))
    small = graph.add(ops.Cast("int4"), [x]).output
    graph.outputs = [graph.add(ops.Cast("float32"), [small]).output]
    assert str(small.type) == "int4[3]"
    (y,) = evaluate(graph, {"x": np.array([-8, 3.7, 7], np.float32)}).values()
    assert y.tolist() == [-8, 3, 7]


def test_the_same_bits():
    graph = Graph("g")
    x = graph.input("x", TensorType("float32", (2,)))
    graph.outputs = [graph.add(ops.BitCast("int32"), [x]).output]
    (y,) = evaluate(graph, {"x": np.array([1, -2], np.float32)}).values()
    assert y.tolist() == [0x3F800000, -0x40000000]
    with pytest.raises(Exception, match="another size"):
        graph.add(ops.BitCast("int64"), [x])


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("count", [3, 40])
def test_constants_are_saved(tmp_path: Path, dtype, count):
    graph = Graph("g")
    data = np.ones(count, np.float32).astype(dtype)
    x = graph.input("x", TensorType("float32", (count,)))
    reals = graph.add(ops.Cast("float32"), [graph.constant(data, "w")]).output
    graph.outputs = [graph.add(ops.Add(), [x, reals]).output]
    save(graph, tmp_path)
    again = load(tmp_path)
    verify(again)
    assert again == graph
    assert again["w"].data.dtype == data.dtype
    np.testing.assert_array_equal(again["w"].data.view(np.uint8), data.view(np.uint8))
