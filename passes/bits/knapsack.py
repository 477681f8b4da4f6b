"""One choice for every item, of least loss in total within a budget: exactly.

A dynamic program over items keeps the states (cost, loss) that no other one dominates, and of these
the ones that a Lagrangian bound does not rule out: with a price of cost, what the items to come
lose at least is known at once (Shoham and Gersho, "Efficient bit allocation for an arbitrary set of
quantizers", 1988).  Few states are left, and the result is that of trying everything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.types import Array

SLACK = 1e-9
"""Relative error of sums of floats, which must not rule out anything."""


def allocate(costs: Sequence[Array], losses: Sequence[Array], budget: float) -> list[int] | None:
    """The choice of each item; None where even the cheapest ones cost more than ``budget``.

    ``costs[i]`` and ``losses[i]`` are float64 ``[choices]``, finite.  Of allocations that lose the
    same the cheapest.
    """
    limit = budget + SLACK * abs(budget)
    if sum(float(c.min()) for c in costs) > limit:
        return None
    price, greatest = _price(costs, losses, limit)
    spared = [np.min(x + price * c) for c, x in zip(costs, losses, strict=True)]
    later_loss = np.append(np.cumsum(spared[::-1])[::-1], 0.0)[1:]
    later_cost = np.append(np.cumsum([c.min() for c in costs][::-1])[::-1], 0.0)[1:]
    cost, loss, history = np.zeros(1), np.zeros(1), []
    for i, (own, lost) in enumerate(zip(costs, losses, strict=True)):
        trial, worth = cost[:, None] + own, loss[:, None] + lost
        bound = worth + price * trial + later_loss[i] - price * limit
        possible = (trial + later_cost[i] <= limit) & (bound <= greatest + SLACK * abs(greatest))
        at = np.flatnonzero(possible)
        at = at[np.lexsort((worth.flat[at], trial.flat[at]))]
        best = np.minimum.accumulate(worth.flat[at])
        kept = at[np.append(True, best[1:] < best[:-1])]
        cost, loss = trial.flat[kept], worth.flat[kept]
        history.append(kept)
    state, chosen = len(cost) - 1, []
    for i in reversed(range(len(costs))):
        state, choice = divmod(int(history[i][state]), len(costs[i]))
        chosen.append(choice)
    return chosen[::-1]


def _price(costs: Sequence[Array], losses: Sequence[Array], limit: float) -> tuple[float, float]:
    """The least price of cost at which every item's own best choice fits, and what that loses."""

    def at(price: float) -> tuple[float, float]:
        picks = [int(np.lexsort((c, x + price * c))[0]) for c, x in zip(costs, losses, strict=True)]
        cost = sum(float(c[k]) for c, k in zip(costs, picks, strict=True))
        return cost, sum(float(x[k]) for x, k in zip(losses, picks, strict=True))

    if at(0.0)[0] <= limit:
        return 0.0, at(0.0)[1]
    high = 1e-12
    while at(high)[0] > limit:
        high *= 4
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if at(middle)[0] <= limit else (middle, high)
    return high, at(high)[1]
