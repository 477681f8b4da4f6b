"""Ranges of channels that are clipped for what the readers make of them."""

import numpy as np
import pytest
from graphs import Builder

from qc.ir import evaluate
from qc.passes.equalizing import dual_clipping, repq
from qc.passes.equalizing.dual_clipping import columns, searched
from qc.passes.equalizing.repq import PerChannel
from qc.passes.linear import Linear

from .outliers import feeds_of, network, normed

TOP = 15


def errors(found: PerChannel, x: np.ndarray, zero: np.ndarray) -> np.ndarray:
    codes = np.clip(np.rint(x / found.step[:, None]) + zero[:, None], 0, TOP)
    return (codes - zero[:, None]) * found.step[:, None] - x


def energy(e: np.ndarray, weights: np.ndarray, centred: bool) -> float:
    e = e - e.mean(1, keepdims=True) if centred else e
    return float(np.einsum("cn,cd,dn->", e, weights, e))


def problem(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Channels with tails on either side that go together, and columns that resemble each other."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((12, 600)) + rng.standard_normal(600)
    x = np.sign(x) * np.abs(x) ** rng.uniform(1, 2.5, (12, 1)) + rng.uniform(-2, 2, (12, 1))
    w = rng.standard_normal((7, 12)) + rng.standard_normal((7, 1))
    return x, w.T @ w


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("shifts", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_results_lose_less_than_with_each_channel_on_its_own(
    seed: int, shifts: bool, centred: bool
) -> None:
    x, weights = problem(seed)
    high = np.abs(x).max(1)
    low, high = (x.min(1), x.max(1)) if shifts else (-high, high)
    start = repq.per_channel(low, high, x, TOP, shifts)
    found = searched(start, low, high, x, TOP, shifts, weights, centred)
    lost = []
    for one in (start, found):
        zero = one.zero if shifts else np.full(12, 8.0)
        lost.append(energy(errors(one, x, zero), weights, centred))
    assert lost[1] < 0.95 * lost[0]
    assert (found.zero == np.rint(found.zero)).all()
    assert shifts or not found.zero.any()


def test_means_that_biases_take_off_cost_nothing() -> None:
    """Tails on one side: what clipping them moves the mean is no loss, so more is clipped."""
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(6, 2000)) ** 1.5
    weights = np.eye(6)
    start = repq.per_channel(x.min(1), x.max(1), x, TOP, shifts=True)
    lost = []
    for centred in (False, True):
        found = searched(start, x.min(1), x.max(1), x, TOP, True, weights, centred)
        lost.append(energy(errors(found, x, found.zero), weights, centred=True))
    assert lost[1] < lost[0]


def test_without_columns_that_resemble_each_other_it_is_repq() -> None:
    x, _ = problem(0)
    low, high = x.min(1), x.max(1)
    start = repq.per_channel(low, high, x, TOP, shifts=True)
    alone = np.diag(np.random.default_rng(0).uniform(0.1, 10, 12))
    found = searched(start, low, high, x, TOP, True, alone, centred=False)
    np.testing.assert_array_equal(found.step, start.step)
    np.testing.assert_array_equal(found.zero, start.zero)


@pytest.mark.parametrize("bits", [4, 8])
def test_integer_codes_are_bit_identical(bits: int) -> None:
    """One scale and zero point behind the reparameterization give the codes per channel before."""
    b = normed()
    feeds, top = feeds_of(b, 40), 2**bits - 1
    network_ = network(b.graph, feeds, bits)
    (site,) = network_.sites()
    low, high = repq.spans(site)
    start = repq.per_channel(low, high, site.samples, top, shifts=True)
    own = searched(start, low, high, site.samples, top, True, columns(site), centred=True)
    state = site.state.put(site.channels, own.amounts)
    turned = network_.free.applied(state.scale, state.shift)
    name, (step, zero) = b.graph.nodes[1].output.name, own.common
    before, after = (
        np.concatenate([evaluate(g, f, [name])[name][0] for f in feeds]).T
        for g in (b.graph, turned)
    )
    first = np.clip(np.rint(before / own.step[:, None]) + own.zero[:, None], 0, top)
    np.testing.assert_array_equal(first, np.clip(np.rint(after / step) + zero, 0, top))
    assert len(np.unique(first)) == top + 1


def test_columns_of_all_readers_count() -> None:
    b = Builder((1, 6, 7, 7), dtype="float64")
    x = b.op("Relu", b.conv(b.x, 6))
    wide = b.op("Conv", x, b.normal(4, 3, 3, 3), b.normal(4), group=2)
    b.done(wide, b.conv(x, 5, kernel=1))
    found = network(b.graph, feeds_of(b, 4), 4)
    site = next(s for s in found.sites() if len(s.readers) == 2)
    e = np.random.default_rng(0).standard_normal((6, 20))
    want = 0.0
    for reader in site.readers:
        layer = Linear(b.graph[reader.name].producer)
        for tap in range(layer.weights().shape[3]):
            w = layer.weights()[..., tap]
            parts = e.reshape(layer.groups, -1, 20)
            want += float(np.square(np.einsum("goi,gin->gon", w, parts)).sum())
    order = np.argsort(site.channels)
    np.testing.assert_array_equal(order, np.arange(6))
    assert energy(e, columns(site), centred=False) == pytest.approx(want)


def test_without_shifts_there_are_none() -> None:
    b = normed(norm="RMSNormalization")
    (site,) = network(b.graph, feeds_of(b, 8), 4).sites()
    found = dual_clipping.solve(site)
    np.testing.assert_array_equal(found.shift, 0)
    assert found.scale[2] > 5 * np.median(found.scale)
