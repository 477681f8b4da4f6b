"""Budgets: exact costs, limits that hold, nothing left over that would still fit."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder, residual_net
from hypothesis import given, settings
from hypothesis import strategies as st

from qc.ir.actions import delete
from qc.ir.coupling import Coupling
from qc.ir.errors import PassError
from qc.passes.measure import macs, parameters, weight_bytes
from qc.passes.pruning.allocation import Limits, ranked, rate_distortion, refill, uniform
from qc.passes.pruning.budget import Budget

MEASURES = {"macs": macs, "parameters": parameters, "bytes": weight_bytes}


def network() -> Coupling:
    return Coupling(residual_net().graph)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(sorted(MEASURES)))
def test_costs_are_those_of_the_graph_that_is_left(seed: int, unit: str) -> None:
    rng = np.random.default_rng(seed)
    coupling = network()
    groups = coupling.deletable()
    budget = Budget.of(coupling, groups, unit)
    kept = np.array([int(rng.integers(1, len(g) + 1)) for g in groups])
    gone = np.zeros(coupling.count, bool)
    for group, count in zip(groups, kept, strict=True):
        gone[rng.permutation(group.channels)[count:]] = True
    assert budget.cost(kept) == MEASURES[unit](delete(coupling, gone))


def limits(part: float, step: int = 1) -> Limits:
    coupling = network()
    budget = Budget.of(coupling, coupling.deletable())
    count = len(budget.sizes)
    least = np.full(count, step)
    return Limits(budget, part * budget.cost(budget.sizes), least, np.full(count, step))


@pytest.mark.parametrize("part", [0.8, 0.5, 0.2])
@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("how", ["uniform", "ranked", "rate-distortion"])
def test_budgets_hold(part: float, step: int, how: str) -> None:
    where = limits(part, step)
    sizes, rng = where.budget.sizes, np.random.default_rng(0)
    gains = [np.append(np.sort(rng.random(n - 1)), np.inf) for n in sizes]
    curves = [np.append(np.inf, np.linspace(1, 0, n) ** 2) for n in sizes]
    for curve in curves:
        curve[0] = 4.0
    kept = {
        "uniform": lambda: uniform(where),
        "ranked": lambda: ranked(where, gains),
        "rate-distortion": lambda: rate_distortion(where, curves),
    }[how]()
    assert where.fits(kept)
    kept = refill(where, kept, gains)
    assert where.fits(kept)
    assert ((kept >= where.least) & (kept <= sizes)).all()
    assert all(k % step == 0 or k == n for k, n in zip(kept, sizes, strict=True))
    for g in range(len(kept)):
        more = kept.copy()
        more[g] = min(sizes[g], kept[g] + step)
        assert more[g] == kept[g] or not where.fits(more), "nothing more would fit"


def test_the_cheaper_distortion_is_cut_first() -> None:
    where = limits(0.6)
    sizes = where.budget.sizes
    curves = [np.linspace(1, 0, n + 1) * (1e-6 if g == 0 else 1.0) for g, n in enumerate(sizes)]
    kept = rate_distortion(where, curves)
    assert kept[0] / sizes[0] < min(kept[1:] / sizes[1:])


def test_an_impossible_budget_says_what_is_possible() -> None:
    where = limits(0.0001)
    with pytest.raises(PassError, match=r"0\.0001 of the macs cannot be met; the least .* is 0\."):
        where.check()


def test_a_transposed_layer_counts() -> None:
    b = Builder((1, 3, 6, 6))
    x = b.op("Relu", b.conv(b.x, 8))
    w = b.normal(8, 5, 3, 3)
    b.done(b.op("ConvTranspose", x, w))
    coupling = Coupling(b.graph)
    budget = Budget.of(coupling, coupling.deletable())
    assert budget.cost(budget.sizes) == macs(b.graph)
