"""Resize against onnxruntime: every mode, coordinate rule and rounding."""

import numpy as np
import pytest

from qc.ir import ops

X = np.random.default_rng(2).normal(size=(1, 2, 4, 5)).astype(np.float32)
RULES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("sizes", [(1, 2, 8, 10), (1, 2, 3, 7)])
def test_nearest(agree, rule, rounding, sizes):
    agree(ops.Resize("nearest", None, sizes, rule, rounding), X)


@pytest.mark.parametrize("rule", [*RULES, "half_pixel_symmetric"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("scales", [(1.0, 1.0, 2.0, 2.0), (1.0, 1.0, 0.5, 1.6)])
def test_interpolation(agree, rule, mode, scales):
    agree(ops.Resize(mode, scales, None, rule), X, atol=2e-5)


def test_exclude_outside(agree):
    agree(ops.Resize("cubic", None, (1, 2, 7, 9), exclude_outside=True), X, atol=2e-5)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialias(agree, mode):
    agree(ops.Resize(mode, None, (1, 2, 2, 3), antialias=True), X, atol=2e-5)


def test_kept_axes(agree):
    agree(ops.Resize("linear", None, (-1, -1, 8, 10)), X, atol=2e-5)


def test_dynamic_target(agree):
    agree(ops.Resize(), X, np.array([1, 1, 2, 2], np.float32))
    agree(ops.Resize(), X, np.array([1, 2, 2, 9], np.int64))
