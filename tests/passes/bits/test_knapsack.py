"""The exact allocation: as good as trying everything, and never worse with more to spend."""

import itertools

import numpy as np
import pytest

from qc.passes.bits.knapsack import allocate


def problem(seed: int, items: int, choices: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sizes and curves like those of layers: unlike by orders of size, not all of them falling."""
    rng = np.random.default_rng(seed)
    bits = np.array([2.0, 3.0, 4.0, 8.0, 6.0])[:choices]
    sizes = rng.integers(1, 60, items) * 9
    losses = [10 ** rng.uniform(-6, 0) * 4.0**-bits * rng.uniform(0.5, 1.5, choices) for _ in sizes]
    return [size * bits for size in sizes], losses


def by_trying(
    costs: list[np.ndarray], losses: list[np.ndarray], budget: float
) -> tuple[float, float]:
    """Least loss, and the least cost at which it can be had."""
    best = (np.inf, np.inf)
    for picks in itertools.product(*(range(len(c)) for c in costs)):
        cost = sum(c[k] for c, k in zip(costs, picks, strict=True))
        if cost <= budget:
            best = min(best, (sum(x[k] for x, k in zip(losses, picks, strict=True)), cost))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_seven_layers_get_what_trying_everything_gives_them(seed: int) -> None:
    costs, losses = problem(seed, 7)
    least, most = (sum(f(c) for c in costs) for f in (min, max))
    budget = least + (most - least) * (seed + 0.5) / 12
    chosen = allocate(costs, losses, budget)
    assert chosen is not None
    cost = sum(c[k] for c, k in zip(costs, chosen, strict=True))
    loss = sum(x[k] for x, k in zip(losses, chosen, strict=True))
    assert cost <= budget
    best = by_trying(costs, losses, budget)
    assert loss == pytest.approx(best[0], rel=1e-12)
    assert cost == best[1]


def test_more_to_spend_never_loses_more() -> None:
    costs, losses = problem(3, 24, 5)
    least, most = (sum(f(c) for c in costs) for f in (min, max))
    found = []
    for budget in np.linspace(least, most, 60):
        chosen = allocate(costs, losses, budget)
        assert chosen is not None
        assert sum(c[k] for c, k in zip(costs, chosen, strict=True)) <= budget
        found.append(sum(x[k] for x, k in zip(losses, chosen, strict=True)))
    assert (np.diff(found) <= 0).all()
    assert found[0] > found[30] > found[-1]
    assert found[-1] == pytest.approx(sum(x.min() for x in losses))


def test_many_layers_are_no_trouble() -> None:
    costs, losses = problem(5, 200, 5)
    budget = 0.5 * sum(c.max() for c in costs)
    chosen = allocate(costs, losses, budget)
    assert chosen is not None
    assert 0.999 * budget < sum(c[k] for c, k in zip(costs, chosen, strict=True)) <= budget


def test_the_least_budget_and_one_that_cannot_be_met() -> None:
    costs, losses = problem(0, 5)
    least = sum(c.min() for c in costs)
    assert allocate(costs, losses, least) == [0] * 5
    assert allocate(costs, losses, 0.999 * least) is None
    assert allocate([], [], 0.0) == []


def test_of_equal_losses_the_cheapest() -> None:
    costs = [np.array([8.0, 4.0, 2.0])] * 3
    assert allocate(costs, [np.zeros(3)] * 3, 24.0) == [2, 2, 2]
