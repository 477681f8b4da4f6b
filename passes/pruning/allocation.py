"""How many channels of each group stay, within a budget.

``uniform`` keeps the same fraction everywhere.  ``ranked`` removes the channels of least importance
per unit of cost, whatever group they are in.  ``rate_distortion`` minimises the sum of measured
distortions: for a price of cost every group takes the count that is best for it, given the others,
until none changes; the price is the least that meets the budget.  Costs are exact throughout (the
cost of a layer is a product of two groups' counts), which is why this is not a table of sums.

Sources: Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers", 1988
(Lagrangian allocation); Xu et al., "Efficient Joint Optimization of Layer-Adaptive
Weight Pruning in Deep Neural Networks", 2023 (measured output distortion curves per layer).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...ir.errors import PassError
from ...ir.types import Array
from .budget import Budget

CLOSE = 0.98
"""An allocation that uses this much of its budget is close enough."""

COUNTS = 48
"""Counts of one group that are compared."""

WORSE = 2.0
"""Allocations that are predicted to distort this much more than the best are not tried."""

SWEEPS = 8
"""Rounds over all groups for one price; allocations settle after three or four."""


@dataclass(frozen=True)
class Limits:
    """``limit`` of the cost; ``least`` and ``step`` channels per group, int64 ``[groups]``."""

    budget: Budget
    limit: float
    least: Array
    step: Array

    @property
    def whole(self) -> float:
        """The cost of everything."""
        return self.budget.cost(self.budget.sizes)

    def check(self) -> None:
        """``PassError`` where even the least channels everywhere cost too much."""
        whole, lowest = self.whole, self.budget.cost(self.least)
        if lowest > self.limit:
            step = int(self.step.max(initial=1))
            why = f" with multiples of {step} channels (round_to)" if step > 1 else ""
            raise PassError(
                f"a budget of {self.limit / whole:.3g} of the {self.budget.unit} cannot be met; "
                f"the least reachable is {lowest / whole:.3g}{why}"
            )

    def rounded(self, kept: Array) -> Array:
        """Counts that are allowed, none above ``kept`` but for the least ones."""
        whole = self.budget.sizes
        down = np.where(kept >= whole, whole, kept // self.step * self.step)
        return np.asarray(np.maximum(down, self.least), np.int64)

    def choices(self, group: int) -> Array:
        """All counts allowed for one group, rising."""
        size, least = int(self.budget.sizes[group]), int(self.least[group])
        counts = np.arange(0, size, self.step[group])
        return np.unique([least, *counts[counts > least], size])

    def fits(self, kept: Array) -> bool:
        """Whether an allocation is within the budget."""
        return self.budget.cost(kept) <= self.limit


def uniform(limits: Limits) -> Array:
    """The greatest common fraction."""
    whole = limits.budget.sizes
    return _loosest(limits, lambda t: np.ceil(whole * (1 - t)).astype(np.int64))


def ranked(limits: Limits, gains: list[Array]) -> Array:
    """By importance: ``gains[g][j]`` is what the j-th removal in group ``g`` loses per cost."""
    rising = [np.maximum.accumulate(g) for g in gains]
    levels = np.unique(np.concatenate([g[np.isfinite(g)] for g in rising]))

    def kept(t: float) -> Array:
        below = levels[min(int(t * len(levels)), len(levels) - 1)]
        return np.array([int((g > below).sum()) for g in rising], np.int64)

    return _loosest(limits, lambda t: kept(t) if t else limits.budget.sizes)


def per_cost(budget: Budget, gains: list[Array]) -> list[Array]:
    """Importances over what removing a channel of each group saves in the whole network."""
    sizes, out = budget.sizes, []
    whole = budget.cost(sizes)
    for g, own in enumerate(gains):
        less, all_ = budget.along(sizes, g, np.array([sizes[g] - 1, sizes[g]]))
        out.append(own * whole / max(all_ - less, 1e-30))
    return out


def rate_distortion(limits: Limits, curves: list[Array]) -> Array:
    """By measurement: ``curves[g][n]`` is the distortion when ``n`` channels of ``g`` stay."""
    costs = limits.budget
    choices = [_few(limits.choices(g)) for g in range(len(curves))]
    whole = costs.cost(costs.sizes)
    power = sum(float(c[np.isfinite(c)].max()) for c in curves)

    def kept(price: float) -> Array:
        found = costs.sizes.copy()
        for _ in range(SWEEPS):
            before = found.copy()
            for g, counts in enumerate(choices):
                values = curves[g][counts] + price * costs.along(found, g, counts)
                found[g] = counts[int(np.argmin(values))]
            if np.array_equal(found, before):
                break
        return found

    low, high = 0.0, 1e-3 * power / whole
    while not limits.fits(kept(high)):
        low, high = high, high * 4
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if limits.fits(kept(middle)) else (middle, high)
    return kept(high)


def _few(counts: Array) -> Array:
    """Evenly spread ones of many: what lies between is given back afterwards."""
    if len(counts) <= COUNTS:
        return counts
    return np.asarray(counts[np.round(np.linspace(0, len(counts) - 1, COUNTS)).astype(int)])


def predicted(kept: Array, curves: list[Array]) -> float:
    """The sum of the distortions that curves say (0 without curves)."""
    return sum(float(curve[n]) for curve, n in zip(curves, kept, strict=False))


def promising(found: list[Array], curves: list[Array]) -> list[Array]:
    """Those of which the distortion curves (if there are any) do not say that they are hopeless."""
    sums = [predicted(kept, curves) for kept in found]
    good = [k for k, own in zip(found, sums, strict=True) if own <= WORSE * min(sums)]
    return [k for i, k in enumerate(good) if not any(np.array_equal(k, o) for o in good[:i])]


def refill(limits: Limits, kept: Array, gains: list[Array]) -> Array:
    """Give back the channels that still fit, the most important per cost first.

    In a network of few channels none may fit though much is left: then a group gives some up for
    others, if that comes closer to the limit.
    """
    best = _refill(limits, kept, gains, -1)
    if limits.budget.cost(best) >= CLOSE * limits.limit:
        return best
    trials = [best]
    for g in range(len(kept)):
        for count in limits.choices(g)[limits.choices(g) < best[g]]:
            trial = best.copy()
            trial[g] = count
            trials.append(_refill(limits, trial, gains, g))
    return max(trials, key=limits.budget.cost)


def _refill(limits: Limits, kept: Array, gains: list[Array], fixed: int) -> Array:
    """Channels given back one step at a time to all groups but ``fixed``."""
    budget, kept = limits.budget, kept.copy()
    left = limits.limit - budget.cost(kept)
    while True:
        best, most, least = -1, -np.inf, 0.0
        for g, size in enumerate(budget.sizes):
            more = min(size, kept[g] + limits.step[g])
            if g == fixed or more == kept[g]:
                continue
            before, after = budget.along(kept, g, np.array([kept[g], more]))
            worth = float(gains[g][size - more : size - kept[g]].sum())
            worth /= max(after - before, 1e-30)
            if after - before <= left and worth > most:
                best, most, least = g, worth, after - before
        if best < 0:
            return kept
        kept[best] = min(budget.sizes[best], kept[best] + limits.step[best])
        left -= least


def _loosest(limits: Limits, kept: Callable[[float], Array]) -> Array:
    """The allocation for the least ``t`` in [0, 1] that meets the budget."""
    low, high = 0.0, 1.0
    if limits.fits(limits.rounded(kept(0.0))):
        return limits.rounded(kept(0.0))
    for _ in range(40):
        middle = (low + high) / 2
        fits = limits.fits(limits.rounded(kept(middle)))
        low, high = (low, middle) if fits else (middle, high)
    return limits.rounded(kept(high))
