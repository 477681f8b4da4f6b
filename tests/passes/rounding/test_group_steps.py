"""Steps of blocks, before and after weights are rounded."""

from __future__ import annotations

import numpy as np
import pytest

from qc.passes.rounding.elements import Elements
from qc.passes.rounding.group_steps import energies, refitted, searched
from qc.passes.rounding.second_order import BEST, second_order


def layer(seed: int, rows: int = 12, width: int = 24, size: int = 8):
    """Rows, moments of correlated inputs, and the block of every column."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((200, width)) @ rng.standard_normal((width, width))
    spread = (mixed.T @ mixed / 200)[None]
    return rng.standard_normal((1, rows, width)), spread, np.arange(width) // size


def rounded(rows, spread, groups, elements):
    steps = searched(rows, spread, groups, elements)
    return second_order(rows, steps, spread, 10**6, elements.nearest, BEST, 3), steps


@pytest.mark.parametrize("name", ["int3-8", "int4-8", "e2m1-8"])
def test_no_row_loses_by_other_steps_and_most_gain(name: str) -> None:
    elements = Elements.of(name)
    ratios = []
    for seed in range(5):
        rows, spread, groups = layer(seed)
        codes, steps = rounded(rows, spread, groups, elements)
        before = energies(spread, codes * steps - rows)
        codes, steps = refitted(rows, codes, steps, spread, groups, elements)
        after = energies(spread, codes * steps - rows)
        assert (after <= before * (1 + 1e-12)).all()
        ratios.append(after / before)
        assert (steps == elements.exact(steps)).all()
        assert (codes == elements.nearest(codes)).all()
        for block in range(groups.max() + 1):
            assert np.ptp(steps[..., groups == block], axis=-1).max() == 0
    assert np.mean(ratios) < 0.97
    assert np.mean(np.array(ratios) < 1) > 0.5


def test_weights_that_are_codes_times_steps_are_found_again() -> None:
    """From steps that are a little off, least squares finds the ones that the weights have."""
    elements = Elements.of("int4-8")
    _, spread, groups = layer(1)
    rng = np.random.default_rng(2)
    codes = rng.integers(-7, 8, (1, 12, 24)).astype(float)
    steps = np.exp2(rng.integers(-2, 3, (1, 12, 3)))[..., groups]
    rows = codes * steps
    found, near = refitted(rows, codes, steps * 1.01, spread, groups, elements)
    assert (found == codes).all()
    assert (near == steps).all()


def test_powers_of_two_stay() -> None:
    elements = Elements.of("bfp4-8")
    rows, spread, groups = layer(3)
    codes, steps = rounded(rows, spread, groups, elements)
    after = refitted(rows, codes, steps, spread, groups, elements)
    assert (after[0] == codes).all()
    assert (after[1] == steps).all()


def test_rows_and_blocks_of_zeros() -> None:
    elements = Elements.of("int4-8")
    rows, spread, groups = layer(4)
    rows[0, 3] = 0
    rows[0, 5, :8] = 0
    codes, steps = rounded(rows, spread, groups, elements)
    codes, steps = refitted(rows, codes, steps, spread, groups, elements)
    assert np.isfinite(codes * steps).all()
    assert (codes[0, 3] == 0).all()
