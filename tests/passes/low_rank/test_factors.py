"""Matrices of low rank: what they leave by the inputs' moments, and that all of it can go."""

import numpy as np
import pytest

from qc.passes.low_rank.factors import left_over, low_rank, refitted


def problem(
    groups: int, outputs: int, width: int, count: int = 4000
) -> tuple[np.ndarray, np.ndarray]:
    """An error without structure, and second moments of correlated inputs of unlike sizes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(groups, count, width)) @ rng.normal(size=(groups, width, width))
    x *= rng.lognormal(0, 1.5, width)
    return rng.normal(size=(groups, outputs, width)), x.transpose(0, 2, 1) @ x / count


def energy(error: np.ndarray, spread: np.ndarray) -> float:
    return float(np.einsum("gok,gkl,gol->", error, spread, error))


@pytest.mark.parametrize(("groups", "outputs", "width"), [(1, 12, 30), (1, 30, 12), (3, 5, 9)])
def test_every_rank_leaves_less_and_the_full_one_nothing(
    groups: int, outputs: int, width: int
) -> None:
    error, spread = problem(groups, outputs, width)
    predicted, whole, found = left_over(error, spread), energy(error, spread), []
    for rank in range(1, min(outputs, width) + 1):
        up, down = low_rank(error, spread, rank)
        assert up.shape == (groups, outputs, rank)
        assert down.shape == (groups, rank, width)
        found.append(energy(error - up @ down, spread) / whole)
    assert (np.diff(found) < 0).all()
    np.testing.assert_allclose(found, predicted[1:], atol=1e-5)
    assert predicted[0] == 1
    np.testing.assert_allclose(up @ down, error, atol=1e-6)


def test_directions_that_inputs_take_count() -> None:
    """The plain singular vectors of the error (LoRC as published) leave more of the results."""
    error, spread = problem(1, 64, 128)
    up, down = low_rank(error, spread, 8)
    left, values, right = np.linalg.svd(error, full_matrices=False)
    plain = (left[..., :8] * values[:, None, :8]) @ right[:, :8]
    assert energy(error - up @ down, spread) < 0.7 * energy(error - plain, spread)


def test_up_is_refitted_to_a_rounded_down() -> None:
    error, spread = problem(2, 20, 30)
    up, down = low_rank(error, spread, 6)
    np.testing.assert_allclose(refitted(error, spread, down), up, rtol=1e-3, atol=1e-5)
    step = np.abs(down).max() / 3
    coarse = np.rint(down / step) * step
    again = refitted(error, spread, coarse)
    assert energy(error - again @ coarse, spread) < energy(error - up @ coarse, spread)


def test_nothing_to_make_up_for_and_inputs_that_are_dead() -> None:
    error, spread = problem(1, 6, 8)
    np.testing.assert_array_equal(left_over(0 * error, spread), 0)
    for nothing in (0 * spread, np.zeros_like(spread) + 2.0):
        up, down = low_rank(error, nothing, 3)
        assert np.isfinite(up).all()
        assert np.isfinite(down).all()
        assert np.isfinite(refitted(error, nothing, down)).all()
