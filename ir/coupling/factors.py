"""How axes divide into factors, so that reshaped channels keep their identity.

An axis of ``heads * head_dim`` elements has the factors ``heads`` and ``head_dim``; a chain of
strides ``head_dim | heads * head_dim`` says so.  All axes that are ``same`` form a class and share
one chain.  Strides spread over products and indices until nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import prod

import numpy as np

from ..types import Array
from .action import Action
from .relations import Axis, Relations, is_made_up

Run = tuple[int, ...]


class Classes:
    """The classes of axes that are the same, the relations between classes, and their strides.

    Relations count that hold under ``action``.  ``of`` gives an axis's class, ``members`` the axes
    of a class, ``sizes`` its length, ``strides`` its ordered chain from 1 to its length.
    ``products`` are pairs of lists of classes, ``indices`` triples (big, indices, small),
    ``balances`` lists of classes with signs, which have one length.
    """

    def __init__(self, relations: Relations, action: Action) -> None:
        from networkx.utils import UnionFind

        union: UnionFind = UnionFind(relations.sizes)
        sames = [s for s in relations.sames if action in s.under]
        for s in sames:
            union.union(s.left, s.right)
        indices = [i for i in relations.indices if action in i.under]
        products = [p for p in relations.products if action in p.under]
        balances = [b for b in relations.balances if action in b.under]
        related = {axis for s in sames for axis in (s.left, s.right)}
        related.update(axis for i in indices for axis in (i.big, i.small))
        related.update(axis for p in products for axis in (*p.left, *p.right))
        related.update(axis for b in balances for axis, _ in b.terms)
        numbers: dict[Axis, int] = {}
        self.of: dict[Axis, int] = {}
        self.members: list[list[Axis]] = []
        self.sizes: list[int] = []
        for axis, size in relations.sizes.items():
            if is_made_up(axis) and axis not in related:
                continue
            number = numbers.setdefault(union[axis], len(self.sizes))
            if number == len(self.sizes):
                self.sizes.append(size)
                self.members.append([])
            self.of[axis] = number
            self.members[number].append(axis)
        self.indices = [(self.of[i.big], i.indices, self.of[i.small]) for i in indices]
        self.products: list[tuple[Run, Run]] = list(
            dict.fromkeys((self._run(p.left), self._run(p.right)) for p in products)
        )
        self.balances = [[(self.of[axis], sign) for axis, sign in b.terms] for b in balances]
        fixed = action if action in Action.SCALE | Action.SHIFT else Action.PERMUTE
        pinned = {
            self.of[p.axis] for p in relations.pins if fixed in p.forbids and p.axis in self.of
        }
        self.positional = self._spread(pinned)
        self._straighten()
        self.strides = self._factorise()

    def _run(self, axes: Iterable[Axis]) -> Run:
        return tuple(self.of[a] for a in axes)

    def _spread(self, pinned: set[int]) -> set[int]:
        """Classes whose positions have a meaning: pinned, or made up of such classes only.

        (Of diagonal actions: whose channels must stay as they are.)
        """
        before = -1
        while len(pinned) != before:
            before = len(pinned)
            for left, right in self.products:
                if pinned.issuperset(left) or pinned.issuperset(right):
                    pinned |= {*left, *right}
        return pinned

    def _straighten(self) -> None:
        """Turn products with one free factor into indices.

        Flattened maps ``C x H x W``, where positions in H and W are fixed, are channel
        ``indices[i]`` of C at element i, whatever C's own factors are; so blocks of a channel
        shuffle never cross those of a concat.  What remains are products of two free factors
        (heads x head_dim), and flat axes that occur in one of those.
        """
        flat = {n: s for n, p in enumerate(self.products) if (s := self._single(p)) is not None}
        while True:
            rest = [p for n, p in enumerate(self.products) if n not in flat]
            mixed = {c for p in rest for c in (*p[0], *p[1]) if c not in self.positional}
            keep = {n: s for n, s in flat.items() if s[0] not in mixed}
            if len(keep) == len(flat):
                break
            flat = keep
        for one, many, free in flat.values():
            grid = np.unravel_index(np.arange(self.sizes[one]), [self.sizes[c] for c in many])
            self.indices.append((many[free], np.asarray(grid[free]), one))
        self.products = rest

    def _single(self, product: tuple[Run, Run]) -> tuple[int, Run, int] | None:
        """The flat class, the classes it is made of, and which of them is the only free one."""
        for one, many in (product, product[::-1]):
            free = [k for k, c in enumerate(many) if c not in self.positional]
            if len(one) == 1 and one[0] not in self.positional and len(free) == 1:
                return one[0], many, free[0]
        return None

    def _factorise(self) -> list[list[int]]:
        strides: list[set[int]] = [{1, n} for n in self.sizes]
        changed = True

        def give(number: int, new: Iterable[int]) -> None:
            nonlocal changed
            wider = strides[number] | {s for s in new if self.sizes[number] % s == 0}
            if len(wider) > len(strides[number]) and _is_chain(wider):
                strides[number], changed = wider, True

        while changed:
            changed = False
            for big, indices, small in self.indices:
                whole = strides[big] - {self.sizes[big]}
                give(small, (s for s in whole if s <= self.sizes[small] and in_blocks(indices, s)))
                part = strides[small] - {self.sizes[small]}
                give(big, (s for s in part if in_blocks(indices, s)))
            for terms in self.balances:
                shared = set().union(*(strides[c] for c, _ in terms))
                for c, _ in terms:
                    give(c, shared)
            for sides in self.products:
                flat = {s * t for side in sides for c, t in self._tails(side) for s in strides[c]}
                for side in sides:
                    for c, t in self._tails(side):
                        give(
                            c, (f // t for f in flat if f % t == 0 and t <= f <= t * self.sizes[c])
                        )
        return [sorted(s) for s in strides]

    def _tails(self, side: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Each class of a list and how many elements one step of it spans."""
        for k, c in enumerate(side):
            yield c, prod(self.sizes[d] for d in side[k + 1 :])

    def factors(self, number: int) -> list[int]:
        """Lengths of a class's factors, the slowest first; none for length 1."""
        chain = self.strides[number][::-1]
        return [a // b for a, b in pairwise(chain)]


def in_blocks(indices: Array, block: int) -> bool:
    """Whether ``indices`` are whole runs ``k * block ... (k + 1) * block - 1``."""
    if len(indices) % block:
        return False
    rows = indices.reshape(-1, block)
    starts = rows[:, :1]
    return bool(np.all(starts % block == 0) and np.all(rows == starts + np.arange(block)))


def _is_chain(strides: set[int]) -> bool:
    ordered = sorted(strides)
    return all(b % a == 0 for a, b in pairwise(ordered))
