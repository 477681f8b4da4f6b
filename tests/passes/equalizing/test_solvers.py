"""What each solver promises, on small networks."""

from collections.abc import Callable

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph, evaluate
from qc.ir.actions import scale, shift
from qc.ir.coupling import Action, Sites
from qc.ir.errors import PassError
from qc.passes.equalizing import awq, dilate, fp_bias, outlier_suppression, smooth
from qc.passes.equalizing.amounts import REACH, Amounts
from qc.passes.equalizing.choice import BETTER, NONE, solve_all
from qc.passes.equalizing.network import Network
from qc.passes.equalizing.site import Site
from qc.passes.equalizing.solvers import SOLVERS

from .outliers import LOUD, chain, feeds_of, network, normed

NAMES = list(SOLVERS)


def only_site(b: Builder, bits: int = 4) -> tuple[Network, Site]:
    found = network(b.graph, feeds_of(b, 12), bits)
    (site,) = found.sites()
    return found, site


def moved(found: Network, site: Site, amounts: Amounts) -> Graph:
    state = found.state.put(site.channels, amounts)
    return found.free.applied(state.scale, state.shift)


def apart(b: Builder, other: Graph) -> float:
    """Greatest change of any output over its greatest magnitude."""
    worst = 0.0
    for feed in feeds_of(b, 3):
        for name, array in evaluate(b.graph, feed).items():
            worst = max(worst, float(np.abs(evaluate(other, feed)[name] - array).max()))
            worst /= float(np.abs(array).max())
    return worst


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "make", [normed, lambda: normed(readers=3), chain], ids=["norm", "siblings", "chain"]
)
def test_every_solver_is_exact(name: str, make: Callable[[], Builder]) -> None:
    b = make()
    found = network(b.graph, feeds_of(b, 12), 4)
    chosen = solve_all(found, [name])
    assert {c.solver for c in chosen} == {name}
    assert (found.state.scale != 1).sum() > 3
    assert apart(b, found.free.applied(found.state.scale, found.state.shift)) <= 1e-9


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("fp-bias", "dilate")])
def test_every_solver_lessens_what_outliers_cost(name: str) -> None:
    b = normed()
    found, site = only_site(b)
    (one,) = solve_all(found, [name])
    assert one.before is not None
    assert one.after is not None
    assert one.after < 0.3 * one.before
    assert site.error(Amounts.none(16), 1) == pytest.approx(one.before)


def test_smooth_takes_what_weights_can_bear() -> None:
    _, site = only_site(normed())
    factors = smooth.solve(site).scale
    assert set(np.argsort(factors)[-2:]) == set(LOUD)
    errors = {a: site.error(Amounts.of(site.reach**a / site.weights ** (1 - a))) for a in (0.1, 1)}
    assert site.error(smooth.solve(site)) <= min(errors.values())


def test_outlier_suppression_moves_to_the_middle_and_scales_outliers_only() -> None:
    b = normed()
    found, site = only_site(b)
    assert site.shifts
    amounts = outlier_suppression.solve(site)
    np.testing.assert_allclose(amounts.shift, (site.high + site.low) / 2)
    assert (amounts.scale >= 1).all()
    assert (amounts.scale[list(LOUD)] > 2).all()
    assert (amounts.scale == 1).sum() >= 2
    after = moved(found, site, amounts)
    name = b.graph.nodes[1].output.name
    seen = np.concatenate([evaluate(after, f, [name])[name][0] for f in feeds_of(b, 40)])
    assert np.abs(seen).max() < 10 < np.maximum(site.high, -site.low).max()


def test_outlier_suppression_does_not_shift_what_has_no_bias() -> None:
    _, site = only_site(normed(norm="RMSNormalization"))
    np.testing.assert_array_equal(outlier_suppression.solve(site).shift, 0)


def test_awq_scales_by_a_power_of_the_mean() -> None:
    _, site = only_site(normed())
    factors = awq.solve(site).scale
    slope, _ = np.polyfit(np.log(site.magnitude), np.log(factors), 1)
    np.testing.assert_allclose(np.log(factors), np.log(factors).mean() + slope * (
        np.log(site.magnitude) - np.log(site.magnitude).mean()
    ), atol=1e-9)  # fmt: skip
    assert factors.max() * factors.min() == pytest.approx(1)


def test_dilated_weights_keep_the_range_of_every_row() -> None:
    b = normed()
    found, site = only_site(b)
    amounts = dilate.solve(site)
    assert amounts is not None
    assert (amounts.scale >= 1).all()
    assert (amounts.scale > 1).sum() > 4
    after = moved(found, site, amounts)
    for name in ("w.1",):
        before, grown = (np.abs(np.asarray(g[name].data)).max(0) for g in (b.graph, after))
        np.testing.assert_allclose(grown, before, rtol=1e-12)
    again = network(after, None)
    second = dilate.solve(again.sites()[0])
    assert second is not None
    np.testing.assert_allclose(second.scale, 1, rtol=1e-9)


def test_cross_layer_makes_rows_and_columns_reach_equally_far() -> None:
    b = chain()
    found = network(b.graph, None)
    chosen = solve_all(found, ["cross-layer"])
    assert [c.solver for c in chosen] == ["cross-layer"] * 3
    assert all(c.before is None for c in chosen)
    for site in map(found.at, found.sites()):
        np.testing.assert_allclose(
            site.rows / site.amounts.scale, site.columns * site.amounts.scale, rtol=0.02
        )


def test_exponent_biases_change_no_bit() -> None:
    b = normed(dtype="float32")
    found, site = only_site(b)
    amounts = fp_bias.solve(site)
    octaves = np.log2(amounts.scale)
    np.testing.assert_array_equal(octaves, np.rint(octaves))
    assert octaves.min() == -3
    assert octaves.max() == 0
    after = moved(found, site, amounts)
    for feed in feeds_of(b, 3):
        for name, array in evaluate(b.graph, feed).items():
            np.testing.assert_array_equal(evaluate(after, feed)[name], array)


def test_the_best_solver_is_taken_site_by_site() -> None:
    b = chain()
    found = network(b.graph, feeds_of(b, 12), 4)
    chosen = solve_all(found, NAMES)
    assert len(chosen) == 3
    for one in chosen:
        assert one.before is not None
        assert one.after is not None
        assert one.after * BETTER <= one.before
        site = found.at(one.site)
        for name in NAMES[1:]:
            answer = SOLVERS[name].solve(one.site)
            if answer is not None and name != one.solver:
                errors = [site.error(answer, h) / site.error(site.amounts, h) for h in (0, 1)]
                assert max(errors) > BETTER
        assert (one.solver == NONE) == (site.amounts.scale == 1).all()


def test_where_nothing_is_loud_nothing_is_done() -> None:
    b = Builder((1, 24, 16), dtype="float64")
    b.done(
        b.op("MatMul", b.op("Relu", b.op("MatMul", b.x, b.const(np.eye(16)))), b.const(np.eye(16)))
    )
    found = network(b.graph, [{"x": np.ones((1, 24, 16))}] * 4)
    (one,) = solve_all(found, NAMES)
    assert one.solver == NONE
    np.testing.assert_array_equal(found.state.scale, 1)


@pytest.mark.parametrize("name", NAMES)
def test_silent_and_constant_channels_give_finite_factors(name: str) -> None:
    """Channels that are always zero, channels that never vary, columns of zeros."""
    b = Builder((1, 24, 16), dtype="float64")
    gain, bias = np.ones(16), b.rng.normal(0, 1, 16)
    gain[:3], bias[:2] = 0, 0
    y = b.op("LayerNormalization", b.x, b.const(gain), b.const(bias))
    w = b.rng.normal(size=(16, 8))
    w[5] = 0
    b.done(b.op("Relu", b.op("Add", b.op("MatMul", y, b.const(w)), b.normal(8))))
    found, site = only_site(b)
    amounts = SOLVERS[name].solve(site)
    assert amounts is not None
    assert np.isfinite(amounts.scale).all()
    assert np.isfinite(amounts.shift).all()
    assert (amounts.scale > 0).all()
    assert amounts.scale.max() / amounts.scale.min() <= REACH**2
    assert apart(b, moved(found, site, amounts)) <= 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_a_network_that_says_nothing(name: str) -> None:
    b = normed()
    found = network(b.graph, [{"x": np.zeros((1, 24, 16))}] * 2)
    for site in found.sites():
        amounts = SOLVERS[name].solve(site)
        assert amounts is not None
        assert np.isfinite(amounts.scale).all()


def test_scaling_through_gelu_is_refused_for_the_error_it_would_make() -> None:
    b = Builder((1, 5, 3), dtype="float64")
    b.done(
        b.op("MatMul", b.op("Gelu", b.op("MatMul", b.x, b.normal(3, 6, scale=1.0))), b.normal(6, 2))
    )
    assert network(b.graph, feeds_of(b, 2)).readers == []
    factors = np.exp2(b.rng.uniform(-2, 2, 6))
    by_hand = b.graph.copy()
    by_hand.assign(by_hand["w"], np.asarray(b.graph["w"].data) / factors)
    by_hand.assign(by_hand["w.1"], np.asarray(b.graph["w.1"].data) * factors[:, None])
    assert apart(b, by_hand) > 0.05
    sites = Sites(b.graph, Action.SCALE)
    (components,) = sites.channels(b.graph.nodes[1].output, 2)
    amount = np.ones(sites.count)
    amount[components] = factors
    with pytest.raises(PassError, match="cannot be scaled: op Gelu"):
        scale(sites, amount)


def test_a_shift_into_a_padded_convolution_is_refused_for_the_error_it_would_make() -> None:
    b = Builder((1, 3, 6, 6), dtype="float64")
    x = b.conv(b.x, 4)
    w, bias = b.normal(5, 4, 3, 3), b.normal(5)
    b.done(b.op("Relu", b.op("Conv", x, w, bias, pads=(1, 1, 1, 1))))
    (site,) = network(b.graph, feeds_of(b, 2)).sites()
    assert not site.shifts
    amount = b.rng.normal(0, 1, 4)
    by_hand = b.graph.copy()
    by_hand.assign(by_hand["w.1"], np.asarray(b.graph["w.1"].data) + amount)
    taken = np.asarray(w.data).sum((2, 3)) @ amount
    by_hand.assign(by_hand["w.3"], np.asarray(b.graph["w.3"].data) - taken)
    assert apart(b, by_hand) > 0.05
    sites = Sites(b.graph, Action.SHIFT)
    (components,) = sites.channels(x, 1)
    moving = np.zeros(sites.count)
    moving[components] = amount
    with pytest.raises(PassError, match="cannot be shifted: zero padding"):
        shift(sites, moving)
