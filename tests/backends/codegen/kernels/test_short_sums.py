"""Weights divided into groups whose sums fit 16 bits, and that nothing is lost by it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("tvm")

from qc.backends.codegen.kernels.short_sums import Groups, divide, visits

LANES = 8


def bell(blocks: int, steps: int, deviation: float, seed: int = 0) -> NDArray[np.int8]:
    numbers = np.random.default_rng(seed).standard_normal((blocks, steps, LANES, 4)) * deviation
    return np.clip(np.rint(numbers), -128, 127).astype(np.int8)


def saturated(codes: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.int64]:
    """The sums of a group's pairs as vpmaddubsw and vpaddw leave them: int16 all the way."""
    pairs = (codes.astype(np.int64) * weights).reshape(len(weights), -1, 2).sum(-1)
    pairs = np.clip(pairs, -(2**15), 2**15 - 1)
    return (pairs.sum(0) + 2**15) % 2**16 - 2**15


def check(blocks: NDArray[np.generic], groups: Groups, depth: int) -> None:
    """Every weight is there once, and no codes leave 16 bits."""
    found = np.zeros((len(blocks), blocks.shape[1], LANES * 4), np.int64)
    block = np.repeat(np.arange(len(blocks)), np.diff(groups.starts))
    assert len(block) == len(groups.steps) == len(groups.weights)
    np.add.at(found, (block[:, None], groups.steps), groups.weights.astype(np.int64))
    np.testing.assert_array_equal(found, blocks.reshape(found.shape))
    assert groups.steps.shape[1:] == (depth,)
    for weights in groups.weights.astype(np.int64):
        for codes in (255 * (weights > 0), 255 * (weights < 0), 255 + 0 * weights):
            exact = (codes * weights).reshape(depth, -1, 2).sum((0, 2))
            np.testing.assert_array_equal(saturated(codes, weights), exact)


@pytest.mark.parametrize("depth", [2, 4])
@given(st.integers(1, 3), st.integers(1, 70), st.floats(0, 120), st.integers(0, 99), st.booleans())
def test_exact_for_any_weights(
    depth: int, blocks: int, steps: int, deviation: float, seed: int, ends: bool
) -> None:
    weights = bell(blocks, steps, deviation, seed)
    if ends:
        weights = np.where(weights > 0, 127, -128).astype(np.int8)
    check(weights, divide(weights, depth), depth)


@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize("value", [127, -128])
def test_weights_at_the_end_of_their_range(depth: int, value: int) -> None:
    weights = np.full((2, 9, LANES, 4), value, np.int8)
    groups = divide(weights, depth)
    check(weights, groups, depth)
    assert len(groups.steps) == 2 * 9 * 2, "a pair takes two groups of its own"


def test_a_saturating_group_would_be_noticed() -> None:
    weights = np.full((1, 2, LANES, 4), 65, np.int8)
    whole = Groups(np.array([[0, 1]]), weights.reshape(1, 2, -1), np.array([0, 1]))
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        check(weights, whole, 2)


@pytest.mark.parametrize(("depth", "most"), [(2, 32), (4, 16)])
def test_small_weights_are_visited_once(depth: int, most: int) -> None:
    weights = bell(3, 128, most / 3)
    weights = np.clip(weights, -most, most)
    groups = divide(weights, depth)
    check(weights, groups, depth)
    assert np.diff(groups.starts).tolist() == [128 // depth] * 3
    assert visits(weights, depth) == 1


def test_large_weights_find_partners() -> None:
    """No two of the first half fit together, but each with one of the second half."""
    weights = np.zeros((1, 40, LANES, 4), np.int8)
    weights[:, :20, 3, 1], weights[:, 20:, 3, 1] = 100, 20
    groups = divide(weights, 2)
    check(weights, groups, 2)
    assert len(groups.steps) == 20


def test_only_what_has_no_room_is_visited_again() -> None:
    weights = bell(2, 64, 10)
    weights[:, :, 0] = 0
    weights[:, ::8, 0] = 127
    groups = divide(weights, 2)
    check(weights, groups, 2)
    assert set(np.diff(groups.starts)) == {36}, "8 of 64 steps twice"


def test_steps_are_read_in_their_order() -> None:
    groups = divide(bell(2, 200, 30), 2)
    for first, last in zip(groups.starts, groups.starts[1:], strict=False):
        assert (np.diff(groups.steps[first:last].min(1)) >= 0).all()


def test_no_weights_need_no_groups() -> None:
    weights = np.zeros((2, 5, LANES, 4), np.int8)
    weights[1, 3] = 1
    assert divide(weights, 2).starts.tolist() == [0, 0, 1]
    assert divide(weights[:1], 2).steps.shape == (0, 2)


@pytest.mark.parametrize("steps", [3, 16, 64, 200])
def test_visits_are_about_those_of_all_groups(steps: int) -> None:
    weights = bell(40, steps, 30)
    found = 2 * len(divide(weights, 2).steps) / (40 * steps)
    assert visits(weights, 2) == pytest.approx(found, rel=0.05)


def test_visits_are_counted_in_all_places() -> None:
    """Chunks of all blocks at the same place would tell nothing of the others."""
    weights = bell(64, 128, 60)
    weights[:, :64] //= 64
    found = 2 * len(divide(weights, 2).steps) / (64 * 128)
    assert visits(weights, 2) == pytest.approx(found, rel=0.1)
