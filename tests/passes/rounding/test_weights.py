"""Weights: rows that lie on a grid keep it, others span the codes; rounding errors cancel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc.passes.rounding.grid import grid_step
from qc.passes.rounding.second_order import balanced
from qc.passes.rounding.weights import weight_scales


def loss(rows: np.ndarray, scale: np.ndarray) -> np.ndarray:
    codes = np.clip(np.rint(rows / scale[:, None]), -127, 127)
    return np.abs(codes * scale[:, None] - rows).max(1)


@pytest.mark.parametrize("zero", [0, 100, 128, 131])
def test_dequantized_weights_lose_nothing_where_the_codes_reach(zero: int) -> None:
    codes = np.random.default_rng(0).integers(0, 256, (40, 9)) - zero
    codes[:20] = np.clip(codes[:20], -127, 127)
    codes[5] //= 8
    rows = (np.float32(0.0173) * codes.astype(np.float32)).astype(np.float64)
    scale = weight_scales(rows, None, 1.0, 8)
    fits = np.abs(codes).max(1) <= 127
    assert fits.sum() >= 20
    assert loss(rows, scale)[fits].max() < 1e-6
    assert scale[5] < 0.0173 / 7, "a narrow row takes a finer grid that holds its own"
    np.testing.assert_allclose(scale[~fits], np.abs(rows[~fits]).max(1) / 127, rtol=1e-6)


def test_other_weights_span_the_codes() -> None:
    rows = np.random.default_rng(0).normal(size=(8, 100))
    assert grid_step(rows) is None
    scale = weight_scales(rows, None, 1.0, 8)
    np.testing.assert_allclose(scale, np.abs(rows).max(1) / 127, rtol=1e-6)


@pytest.mark.parametrize("rows", [np.zeros((2, 3)), np.full((2, 3), 0.5)])
def test_constant_weights_have_no_grid(rows: np.ndarray) -> None:
    assert grid_step(rows) is None
    assert np.isfinite(weight_scales(rows, None, 1.0, 8)).all()


def test_a_large_bias_fits_in_int32() -> None:
    scale = weight_scales(np.array([[0.01, 0.02]]), np.array([1e6]), 1e-3, 8)
    assert abs(1e6 / (scale[0] * 1e-3)) < 2**30


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 9, 25]), st.integers(1, 20))
def test_rounding_errors_cancel_over_filters_and_rows(seed: int, taps: int, inputs: int) -> None:
    rows = np.random.default_rng(seed).normal(0, 40, (4, inputs * taps))
    error = balanced(rows, taps) - rows
    assert np.abs(error.sum(1)).max() <= 0.5 + 1e-9
    assert np.abs(error).max() <= 1.0 + 1e-9


def test_whole_numbers_stay() -> None:
    rows = np.random.default_rng(0).integers(-127, 128, (5, 18)).astype(np.float64)
    np.testing.assert_array_equal(balanced(rows, 9), rows)
