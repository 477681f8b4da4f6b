"""The fewest bits that keep an accuracy: tried, from the fewest on, until it is kept.

Between the bits to begin with and 8 everywhere lie ``STEPS`` budgets; each one's allocation has the
least noise for it.  The least budget that keeps the accuracy is found by halving, and is confirmed
on the integer network.  If no budget keeps it, layers stay float, those of most noise first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...ir.graph import Graph
from ...ir.types import Array
from ..base import Statistics
from ..context import Accuracy, Context
from ..fold_integers import FoldIntegers
from ..plan import role
from ..quantize import QuantizeStatic
from .curves import curves
from .knapsack import allocate
from .sites import ACTIVATIONS, WEIGHTS, Site, widths_of

STEPS = 16
"""Budgets between the bits to begin with and the most there are."""

MOST = 8


def meet(
    graph: Graph,
    context: Context,
    coder: QuantizeStatic,
    sites: Sequence[Site],
    least: Sequence[int],
    candidates: Sequence[int],
    samples: int,
) -> tuple[list[int], Statistics]:
    """Bits per site, from ``least`` on, and what was tried; layers go to ``context.chosen_float``.

    Where the accuracy cannot be kept, what lost least.
    """
    assert context.accuracy is not None
    search = _Search(graph, context, context.accuracy, coder, sites)
    if search.keeps(list(least)) and search.keeps(list(least), confirmed=True):
        return search.result()
    choices = [np.array(sorted({n, MOST, *(b for b in candidates if b > n)})) for n in least]
    every = sorted({int(b) for own in choices for b in own})
    noise = curves(graph, context, sites, every, samples)
    losses = [own[np.searchsorted(every, bits)] for own, bits in zip(noise, choices, strict=True)]
    ladder = _ladder(sites, choices, losses)
    low, high = 0, len(ladder)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if search.keeps(ladder[middle]) else (middle, high)
    while high < len(ladder) and not search.keeps(ladder[high], confirmed=True):
        high += 1
    if high == len(ladder):
        search.in_float([own[-1] for own in noise])
    return search.result()


def _ladder(sites: Sequence[Site], choices: list[Array], losses: list[Array]) -> list[list[int]]:
    """Allocations for rising budgets: weights and activations count alike, by their means."""
    total = {k: sum(s.size for s in sites if s.kind == k) for k in (WEIGHTS, ACTIVATIONS)}
    costs = [bits * (s.size / total[s.kind]) for s, bits in zip(sites, choices, strict=True)]
    low, high = (sum(float(f(c)) for c in costs) for f in (np.min, np.max))
    found: list[list[int]] = []
    for budget in np.linspace(low, high, STEPS + 1):
        chosen = allocate(costs, losses, float(budget))
        assert chosen is not None
        bits = [int(own[k]) for own, k in zip(choices, chosen, strict=True)]
        if bits not in found:
            found.append(bits)
    most = [int(own[-1]) for own in choices]
    return found if most in found else [*found, most]


@dataclass
class _Search:
    """Trials of one network, and the best one: that keeps the accuracy, else that loses least."""

    graph: Graph
    context: Context
    accuracy: Accuracy
    coder: QuantizeStatic
    sites: Sequence[Site]
    tried: list[str] = field(default_factory=list)
    best: tuple[float, list[int], dict[str, str]] | None = None
    known: dict[tuple[tuple[int, ...], tuple[str, ...], bool], float] = field(default_factory=dict)

    def keeps(
        self, bits: list[int], kept: dict[str, str] | None = None, confirmed: bool = False
    ) -> bool:
        """Whether ``bits``, with the layers ``kept`` in float, keep the accuracy.

        ``confirmed``: by the integer network, not by its simulation in float.
        """
        kept = kept or {}
        key = tuple(bits), tuple(kept), confirmed
        if key not in self.known:
            self.known[key] = drop = self._drop(bits, kept, confirmed)
            how = " in integers" if confirmed else ""
            self.tried.append(f"{self._label(bits, kept)}{how}: {drop:.2f}")
            excess = self._excess(drop)
            again = self.best is not None and self.best[1:] == (bits, kept)
            if self.best is None or again or excess <= self._excess(self.best[0]):
                self.best = drop, bits, kept
        return self.known[key] <= self.accuracy.allowed

    def in_float(self, noise: Sequence[float]) -> None:
        """Leave the layers in float that hurt most, twice as many at a time, until it suffices."""
        most, order = [MOST] * len(self.sites), self._worst(noise)
        low, high = 0, 1
        while high < len(order) and not self.keeps(most, self._why(order[:high]), confirmed=True):
            low, high = high, 2 * high
        high = min(high, len(order))
        while high - low > 1:
            middle = (low + high) // 2
            met = self.keeps(most, self._why(order[:middle]), confirmed=True)
            low, high = (low, middle) if met else (middle, high)
        self.keeps(most, self._why(order[:high]), confirmed=True)

    def result(self) -> tuple[list[int], Statistics]:
        """The best trial; its layers stay float."""
        assert self.best is not None
        drop, bits, kept = self.best
        self.context.chosen_float.update(kept)
        met = "kept" if drop <= self.accuracy.allowed else "not kept"
        return bits, {
            "float": len(kept), "drop": round(drop, 3), "allowed": self.accuracy.allowed,
            "accuracy": met, "tried": "; ".join(self.tried),
        }  # fmt: skip

    def _worst(self, noise: Sequence[float]) -> list[str]:
        """Layers by the noise of their weights and operands, the loudest first."""
        own = {m: float(n) for s, n in zip(self.sites, noise, strict=True) for m in s.members}
        found = {
            n.name: own.get(n.name, 0.0) + sum(own.get(v.name, 0.0) for v in n.operands)
            for n in self.graph.nodes
            if role(n, self.context.kept) == "anchor"
        }
        return sorted(found, key=lambda name: -found[name])

    def _excess(self, drop: float) -> float:
        return max(drop - self.accuracy.allowed, 0.0)

    def _why(self, layers: Sequence[str]) -> dict[str, str]:
        reason = "8 bits do not keep the accuracy asked for (--max-drop), and it hurts most"
        return dict.fromkeys(layers, reason)

    def _drop(self, bits: list[int], kept: dict[str, str], confirmed: bool) -> float:
        quiet = replace(
            self.context,
            evaluate=None,
            progress=None,
            moments=dict(self.context.moments),
            why_float={},
            chosen_float={**self.context.chosen_float, **kept},
            widths=widths_of(self.sites, bits),
        )
        trial = self.graph.copy()
        self.coder.apply(trial, quiet)
        if confirmed:
            FoldIntegers().apply(trial, quiet)
            trial.properties.add("integer")
        return self.accuracy.drop(trial)

    def _label(self, bits: list[int], kept: dict[str, str]) -> str:
        words = []
        for kind, letter in ((WEIGHTS, "w"), (ACTIVATIONS, "a")):
            pairs = [(s.size, b) for s, b in zip(self.sites, bits, strict=True) if s.kind == kind]
            total = max(sum(size for size, _ in pairs), 1)
            words.append(f"{letter}{sum(size * b for size, b in pairs) / total:.2f}")
        return " ".join([*words, f"{len(kept)} float"] if kept else words)
