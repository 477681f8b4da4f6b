"""Second-order rounding and the moments that it uses."""

from functools import partial

import numpy as np
import pytest
from graphs import Builder

from qc.ir.errors import PreconditionError
from qc.passes.fitting.windows import Windows
from qc.passes.linear import Linear
from qc.passes.quantize import QuantizeStatic
from qc.passes.rounding import second_order as rounding
from qc.passes.rounding.second_order import BEST, BLOCK, ORDERS, balanced, nearest, second_order
from qc.passes.statistics.moments import Moments


def correlated(rng: np.random.Generator, width: int, count: int) -> np.ndarray:
    x = rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) * 0.3
    return x + rng.normal(size=(count, 1))


def lost(rows: np.ndarray, scale: np.ndarray, codes: np.ndarray, covariance: np.ndarray) -> float:
    error = codes * scale[..., None] - rows
    return float(np.einsum("goi,gij,goj->", error, covariance, error))


@pytest.mark.parametrize(("groups", "width"), [(1, 40), (6, 9), (1, BLOCK + 37)])
@pytest.mark.parametrize("bits", [4, 8])
def test_second_order_loses_less_of_the_result(groups: int, width: int, bits: int) -> None:
    rng, top = np.random.default_rng(0), 2 ** (bits - 1) - 1
    rows = rng.normal(size=(groups, 12, width))
    scale = np.abs(rows).max(2) / top
    x = np.stack([correlated(rng, width, 4000) for _ in range(groups)])
    covariance = np.stack([np.cov(one.T) for one in x])
    codes = second_order(rows, scale, covariance, 4000, top)
    assert (codes == np.rint(codes)).all()
    assert np.abs(codes).max() <= top
    nearest = np.clip(np.rint(rows / scale[..., None]), -top, top)
    share = lost(rows, scale, codes, covariance) / lost(rows, scale, nearest, covariance)
    assert share < 0.6


def problem(width: int, rows: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, their scales for 3 bits, and the covariance of correlated inputs."""
    rng = np.random.default_rng(1)
    weights = rng.standard_t(4, (2, rows, width))
    covariance = np.stack([np.cov(correlated(rng, width, 3000).T) for _ in range(2)])
    return weights, np.abs(weights).max(2) / 3, covariance


def test_the_best_order_is_the_best_one_of_every_row() -> None:
    rows, scale, covariance = problem(BLOCK + 20)
    samples = 10**9  # the covariance is trusted, but for the damping

    def by_row(order: str) -> np.ndarray:
        codes = second_order(rows, scale, covariance, samples, 3, order)
        error = codes * scale[..., None] - rows
        level = np.trace(covariance, axis1=1, axis2=2) / covariance.shape[1]
        damped = covariance + 0.01 * level[:, None, None] * np.eye(covariance.shape[1])
        return np.einsum("goi,gij,goj->go", error, damped, error)

    each = np.stack([by_row(order) for order in ORDERS])
    assert len({float(e.sum()) for e in each}) == 3
    np.testing.assert_allclose(by_row(BEST), each.min(0), rtol=1e-6)
    assert (each.argmin(0) != each.argmin(0)[0, 0]).any()


@pytest.mark.parametrize("order", [*ORDERS, BEST])
def test_rows_side_by_side_get_the_codes_of_the_whole_matrix(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, scale, covariance = problem(2 * BLOCK + 11)
    whole = second_order(rows, scale, covariance, 3000, 3, order)
    monkeypatch.setattr(rounding, "ROWS", 7)
    np.testing.assert_array_equal(second_order(rows, scale, covariance, 3000, 3, order), whole)
    if order != "sensitivity" and order != BEST:  # the order itself is one of all rows
        part = second_order(rows[:, 5:9], scale[:, 5:9], covariance, 3000, 3, order)
        np.testing.assert_array_equal(part, whole[:, 5:9])


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(
        PreconditionError, match=r"quantize has no order 'sensitive'; .*sensitivity"
    ):
        QuantizeStatic(order="sensitive")


def test_weights_on_their_grid_stay() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (2, 5, 18)).astype(np.float64)
    covariance = np.stack([np.cov(correlated(rng, 18, 500).T) for _ in range(2)])
    scale = rng.uniform(0.01, 1, (2, 5))
    again = second_order(codes * scale[..., None], scale, covariance, 500, 127)
    np.testing.assert_array_equal(again, codes)


@pytest.mark.parametrize("covariance", [np.zeros((1, 4, 4)), np.full((1, 4, 4), 2.0)])
def test_dead_and_constant_inputs_are_no_trouble(covariance: np.ndarray) -> None:
    rows = np.random.default_rng(0).normal(size=(1, 3, 4))
    codes = second_order(rows, np.full((1, 3), 0.02), covariance, 10, 127)
    assert np.isfinite(codes).all()
    assert np.abs(codes * 0.02 - rows).max() < 0.1


def test_few_samples_do_not_lead_astray() -> None:
    """Fitted to a handful of observations, the codes must still serve all others."""
    rng = np.random.default_rng(0)
    rows, x = rng.normal(size=(1, 20, 200)), correlated(rng, 200, 5000)
    scale = np.abs(rows).max(2) / 127
    true, few = np.cov(x.T)[None], np.cov(x[:30].T)[None]
    codes = second_order(rows, scale, few, 30, 127)
    plain = balanced(rows[0] / scale[0][:, None], 1)[None]
    assert lost(rows, scale, codes, true) < 1.1 * lost(rows, scale, plain, true)


@pytest.mark.parametrize(
    ("channels", "group", "kernel", "strides", "dilations", "pads"),
    [
        (8, 1, 3, (1, 1), (1, 1), (1, 1, 1, 1)),
        (6, 6, 3, (2, 1), (1, 1), (0, 1, 2, 0)),
        (9, 3, 2, (1, 2), (2, 1), (0, 0, 0, 0)),
    ],
)
def test_moments_are_those_of_what_the_layer_sums(
    channels: int,
    group: int,
    kernel: int,
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> None:
    """Mean and variance of the results follow from the moments of the inputs."""
    b = Builder((1, 6, 9, 8))
    w = b.normal(channels, 6 // group, kernel, kernel)
    y = b.op("Conv", b.x, w, group=group, strides=strides, dilations=dilations, pads=pads)
    graph = b.done(y)
    layer = Linear.of(graph.nodes[0])
    assert layer is not None
    seen, results = Moments(layer, positions=10_000), []
    for feed in b.feeds(5):
        seen.add(feed["x"])
        results.append(y.producer.op.eval([feed["x"], w.data])[0])
    out = np.concatenate(results).swapaxes(0, 1).reshape(channels, -1).astype(np.float64)
    rows = layer.weights().reshape(group, channels // group, -1)
    mean = np.einsum("gok,gk->go", rows, seen.mean).ravel()
    variance = np.einsum("goi,gij,goj->go", rows, seen.covariance, rows).ravel()
    assert seen.count == out.shape[1]
    np.testing.assert_allclose(mean, out.mean(1), atol=1e-5)
    np.testing.assert_allclose(variance, out.var(1), rtol=1e-4)


def test_inputs_that_hardly_vary_keep_a_covariance_that_can_be_factored() -> None:
    b = Builder((7, 5))
    layer = Linear.of(b.done(b.op("MatMul", b.x, b.normal(5, 4))).nodes[0])
    assert layer is not None
    seen = Moments(layer)
    for feed in b.feeds(40):
        seen.add(1 + 1e-6 * feed["x"])
    assert np.linalg.eigvalsh(seen.covariance[0]).min() > 0
    np.testing.assert_allclose(np.diagonal(seen.covariance[0]), 1e-12, rtol=0.5)
    np.testing.assert_allclose(seen.mean, 1, rtol=1e-5)


def test_positions_are_few_and_spread_and_differ_between_samples() -> None:
    b = Builder((1, 3, 40, 40))
    b.done(b.conv(b.x, 4))
    layer = Linear.of(b.graph.nodes[0])
    assert layer is not None
    windows, x = Windows(layer, 64), b.feeds(1)[0]["x"]
    first, second = windows.choose(x), windows.choose(x)
    assert len(first) == len(second) == 64
    assert first.max() > 1500
    assert first.min() < 100
    assert not np.array_equal(first, second)


def test_rows_of_a_matrix_product() -> None:
    b = Builder((7, 5))
    y = b.op("MatMul", b.x, b.normal(5, 4))
    layer = Linear.of(b.done(y).nodes[0])
    assert layer is not None
    seen, x = Moments(layer), b.feeds(1)[0]["x"]
    seen.add(x)
    np.testing.assert_allclose(seen.second[0], x.T @ x / 7, rtol=1e-5, atol=1e-6)


def test_steps_of_columns_that_are_all_alike_are_one_step() -> None:
    rows, scale, covariance = problem(BLOCK + 20)
    every = np.broadcast_to(scale[..., None], rows.shape)
    one = second_order(rows, scale, covariance, 3000, 3, BEST)
    np.testing.assert_array_equal(second_order(rows, every, covariance, 3000, 3, BEST), one)


def test_sweeps_and_a_further_code_lose_less() -> None:
    rows, scale, covariance = problem(60)
    steps = scale[..., None] * np.linspace(0.5, 1.5, 60)
    samples = 10**9

    def error(least: int, sweeps: int) -> float:
        levels = partial(nearest, codes=range(least, 4))
        codes = second_order(rows, steps, covariance, samples, levels, BEST, sweeps)
        assert codes.min() >= least
        assert codes.max() <= 3
        made = codes * steps - rows
        return float(np.einsum("goi,gij,goj->", made, covariance, made))

    assert error(-4, 0) < error(-3, 0)
    assert error(-3, 3) < 0.99 * error(-3, 0)
