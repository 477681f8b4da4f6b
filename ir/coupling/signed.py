"""Amounts that are equal up to sign, or cancel out: which of them are free.

The unknowns are logarithms of factors, or shifts.  An amount and its negative are two nodes of a
graph whose components are amounts that determine each other; an amount that is its own negative
is zero.  A sum of more than two amounts becomes an equation of two, or none, once the others are
known to be zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Array
from .connected import connected
from .ids import Ids

CONTRADICTION = "wanted with two powers"
OTHER_OPERAND = "another operand takes it"


@dataclass
class _Sum:
    """Row by row, amounts ``ids[terms, rows]`` times ``signs[terms]`` add up to zero."""

    ids: Array
    signs: Array
    open: Array


@dataclass(frozen=True)
class Absorber:
    """``taker`` is minus the sum of ``others`` times their signs."""

    taker: Array
    others: tuple[tuple[Array, int], ...]


class Signed:
    """Solves the equal ids and balances of ``ids``; what is ``pinned`` (id to reason) is zero.

    ``own`` (bool per id) are amounts that nothing else reads: they take what a sum leaves over.
    ``component`` and ``sign`` per id, ``why`` (component to reason) of those that must be zero,
    ``absorbers``.
    """

    def __init__(self, ids: Ids, pinned: dict[int, str], own: Array) -> None:
        self.count, self.own = ids.count, own
        self.pinned = pinned
        self.absorbers: list[Absorber] = []
        self._links = [(a, b, 1) for a, b in ids.equal]
        self._sums: list[_Sum] = []
        for terms in ids.balances:
            if len(terms) == 2:
                (a, s), (b, t) = terms
                self._links.append((a, b, -s * t))
            else:
                rows = np.stack([i for i, _ in terms])
                signs = np.array([s for _, s in terms])
                self._sums.append(_Sum(rows, signs, np.ones(rows.shape[1], bool)))
        self._connect()
        while self._reduce() or self._choose():
            self._connect()

    def _connect(self) -> None:
        """Components of ids and their negatives, node ``2 * id`` and ``2 * id + 1``."""
        ends: list[tuple[Array, Array]] = [(np.zeros(0, int), np.zeros(0, int))]
        for a, b, sign in self._links:
            flip = int(sign < 0)
            ends += [(2 * a, 2 * b + flip), (2 * a + 1, 2 * b + 1 - flip)]
        left, right = (np.concatenate([e[k] for e in ends]) for k in (0, 1))
        _, number = connected(left, right, 2 * self.count)
        plus, minus = number[::2], number[1::2]
        self._least = np.minimum(plus, minus)
        self.component = np.unique(self._least, return_inverse=True)[1]
        self.sign = np.where(plus == self._least, 1, -1)
        self.why: dict[int, str] = {}
        for i, why in self.pinned.items():
            self.why.setdefault(int(self.component[i]), why)
        for c in self.component[plus == minus].tolist():
            self.why.setdefault(c, CONTRADICTION)
        self._zero = np.isin(self.component, list(self.why))

    def _reduce(self) -> bool:
        """Close sums with at most two amounts that are not known to be zero."""
        changed = False
        for s in self._sums:
            live = ~self._zero[s.ids]
            small = s.open & (live.sum(0) <= 2)
            for pattern in np.unique(live[:, small], axis=1).T:
                rows = np.flatnonzero(small & (live == pattern[:, None]).all(0))
                s.open[rows], changed = False, True
                terms = [(s.ids[t, rows], int(s.signs[t])) for t in np.flatnonzero(pattern)]
                if len(terms) == 2:
                    (a, x), (b, y) = terms
                    self._links.append((a, b, -x * y))
                elif terms:
                    zero = s.ids[np.flatnonzero(~pattern)[0], rows]
                    for i, j in zip(terms[0][0].tolist(), zero.tolist(), strict=True):
                        self.pinned.setdefault(i, self.why[int(self.component[j])])
        return changed

    def _choose(self) -> bool:
        """Let weights absorb what sums leave over; of sums without, hold an operand fast."""
        size = np.bincount(self.component, minlength=1)
        rows = [s.ids[:, s.open].ravel() for s in self._sums]
        used = np.bincount(np.concatenate([np.zeros(0, int), *rows]), minlength=self.count)
        free = self.own & (size[self.component] == 1) & (used == 1) & ~self._zero
        changed = False
        for s in self._sums:
            for taker in range(len(s.ids)):
                found = np.flatnonzero(free[s.ids[taker]] & s.open)
                if len(found):
                    s.open[found] = False
                    self.absorbers.append(_absorber(s, taker, found))
            for row in np.flatnonzero(s.open):
                operands = s.ids[:, row]
                last = operands[~self._zero[operands]][-1]
                self.pinned.setdefault(int(last), OTHER_OPERAND)
                changed = True
        return changed


def _absorber(s: _Sum, taker: int, rows: Array) -> Absorber:
    others = tuple(
        (s.ids[t, rows], int(s.signs[t] * s.signs[taker])) for t in range(len(s.ids)) if t != taker
    )
    return Absorber(s.ids[taker, rows], others)
