"""Streaming histograms and the five ways to choose a range."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc.passes.statistics.histogram import BINS, TINY, Histogram
from qc.passes.statistics.ranges import METHODS, entropy, least_squares, min_max, percentile


def histogram(x: np.ndarray, parts: int = 4) -> Histogram:
    h = Histogram()
    for part in np.array_split(x.astype(np.float32), parts):
        h.add(part)
    return h


@settings(max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=200), st.integers(1, 5))
def test_streaming_counts_everything(values: list[float], parts: int) -> None:
    x = np.array(values, np.float32)
    h = histogram(x, min(parts, len(x)))
    assert h.counts.sum() == len(x)
    assert (h.least, h.greatest) == (x.min(), x.max())
    assert abs(x).max() <= max(h.reach, TINY)


def test_growing_merges_bins_exactly() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.uniform(-1, 1, 5000), rng.uniform(-30, 30, 5000)
    h = Histogram()
    h.add(small.astype(np.float32))
    h.add(large.astype(np.float32))
    whole = Histogram()
    whole.add(np.concatenate([small, large]).astype(np.float32))
    assert h.reach == whole.reach == 32
    assert np.abs(h.counts - whole.counts).sum() <= 10  # rounding at the edges of bins


def test_memory_does_not_depend_on_the_samples() -> None:
    h = histogram(np.random.default_rng(0).normal(size=100_000))
    assert h.counts.shape == (BINS,)


def test_what_is_not_finite_is_refused() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            Histogram().add(np.array([1.0, bad], np.float32))


@pytest.mark.parametrize("method", METHODS)
def test_zero_is_inside_and_the_range_within_the_extremes(method: str) -> None:
    rng = np.random.default_rng(0)
    for x in (
        rng.normal(size=9999),
        rng.exponential(size=9999),
        -rng.exponential(size=9999),
        np.zeros(10),
    ):
        h = histogram(x)
        low, high = METHODS[method](h, 256, 0.999)
        assert min(h.least, 0) <= low <= 0 <= high <= max(h.greatest, 0)


def test_min_max_is_exact() -> None:
    assert min_max(histogram(np.array([-2.0, 3.0])), 256, 1.0) == (-2.0, 3.0)


def test_percentile_leaves_its_share_outside() -> None:
    x = np.random.default_rng(0).normal(size=200_000)
    low, high = percentile(histogram(x), 256, 0.99)
    assert abs(((x < low) | (x > high)).mean() - 0.01) < 0.002


def quantized_error(x: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 15
    zero = np.rint(-low / step)
    q = np.clip(np.rint(x / step) + zero, 0, 15)
    return float(((q - zero) * step - x).__pow__(2).mean())


def test_least_squares_beats_the_extremes_where_there_are_outliers() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=50_000), [40.0, -35.0]])
    h = histogram(x)
    ours = quantized_error(x, *least_squares(h, 16, 1.0))
    assert ours < 0.1 * quantized_error(x, *min_max(h, 16, 1.0))
    best = min(quantized_error(x, -t, t) for t in np.linspace(1, 40, 400))
    assert ours < 1.15 * best


def test_entropy_is_not_min_max_in_disguise() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=100_000), np.full(20, 60.0)])
    low, high = entropy(histogram(x), 256, 1.0)
    assert high < 45
    assert low < -3


def test_entropy_is_not_ruled_by_the_zeros_after_a_relu() -> None:
    x = np.clip(np.random.default_rng(0).normal(-2.0, 2.0, size=400_000), 0.0, 6.0)
    low, high = entropy(histogram(x), 256, 1.0)
    assert low == 0.0
    assert high > 4.0
