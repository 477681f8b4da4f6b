"""RepQ's reparameterization changes no code."""

import numpy as np
import pytest

from qc.ir import Graph, evaluate
from qc.passes.equalizing import repq
from qc.passes.equalizing.amounts import Amounts

from .outliers import feeds_of, network, normed

TOP = 15


def activations(graph: Graph, feeds: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    return np.concatenate([evaluate(graph, f, [name])[name][0] for f in feeds]).T


def codes(x: np.ndarray, step: object, zero: object) -> np.ndarray:
    return np.clip(np.rint(x / step) + zero, 0, TOP)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_integer_codes_are_bit_identical(seed: int, bits: int) -> None:
    """Codes per channel before, codes of one scale and zero point behind: not one differs."""
    b = normed(seed)
    feeds, top = feeds_of(b, 86), 2**bits - 1
    found = network(b.graph, feeds, bits)
    (site,) = found.sites()
    own = repq.per_channel(site.low, site.high, site.samples, top, shifts=True)
    state = site.state.put(site.channels, own.amounts)
    turned = found.free.applied(state.scale, state.shift)
    name = b.graph.nodes[1].output.name
    before, after = (activations(g, feeds, name) for g in (b.graph, turned))
    step, zero = own.common
    assert zero == round(zero)
    assert before.size >= 32768
    first = np.clip(np.rint(before / own.step[:, None]) + own.zero[:, None], 0, top)
    second = np.clip(np.rint(after / step) + zero, 0, top)
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first)) == top + 1
    for feed in feeds[:2]:
        for key, array in evaluate(b.graph, feed).items():
            apart = np.abs(evaluate(turned, feed)[key] - array).max()
            assert apart <= 1e-9 * np.abs(array).max()


def test_a_zero_point_that_is_not_rounded_changes_codes() -> None:
    """The trap: with the mean of the zero points as it is, most codes are others."""
    b = normed()
    feeds = feeds_of(b, 20)
    (site,) = network(b.graph, feeds, 4).sites()
    own = repq.per_channel(site.low, site.high, site.samples, TOP, shifts=True)
    x, step, mean = site.samples, own.common[0], float(own.zero.mean())
    assert mean != round(mean)
    moved = (x - (own.step * (mean - own.zero))[:, None]) / (own.step / step)[:, None]
    first = codes(x, own.step[:, None], own.zero[:, None])
    assert (codes(moved, step, np.rint(mean)) != first).mean() > 0.2


def test_ranges_are_clipped_where_that_errs_less() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4000))
    x[0, 0] = 40.0
    wide = repq.per_channel(x.min(1), x.max(1), x, TOP, shifts=True)
    assert wide.step[0] < 0.6 * (x[0].max() - x[0].min()) / TOP
    free = repq.per_channel(-np.ones(3), np.ones(3), x / 10, TOP, shifts=False)
    np.testing.assert_array_equal(free.zero, 0)


def test_without_shifts_ranges_are_symmetric() -> None:
    b = normed(norm="RMSNormalization")
    (site,) = network(b.graph, feeds_of(b, 8), 4).sites()
    assert not site.shifts
    found = repq.solve(site)
    np.testing.assert_array_equal(found.shift, 0)
    assert found.scale[2] > 5 * np.median(found.scale)


def test_channels_that_do_not_vary() -> None:
    x = np.zeros((4, 50))
    x[1], x[2] = 7.0, np.linspace(-1, 1, 50)
    found = repq.per_channel(x.min(1), x.max(1), x, TOP, shifts=True).amounts
    assert isinstance(found, Amounts)
    assert np.isfinite(found.scale).all()
    assert (found.scale > 0).all()
    assert np.isfinite(found.shift).all()
    none = repq.per_channel(np.zeros(3), np.zeros(3), np.zeros((3, 9)), TOP, shifts=True).amounts
    np.testing.assert_array_equal(none.scale, 1)
