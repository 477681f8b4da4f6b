"""An id for every element of every factor of every axis, and which ids must be equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..graph import Value
from ..types import Array
from .action import Action
from .factors import Classes, in_blocks
from .relations import FLAT, Relations


@dataclass(frozen=True)
class Place:
    """A factor of an axis of a value; ``sole`` if it is the axis's only one.

    At ``power`` -1 a tensor is divided where its group is multiplied.
    """

    value: Value
    axis: int
    factor: int
    sole: bool
    power: int = 1

    def __str__(self) -> str:
        axis = "0x1" if self.axis == FLAT else self.axis
        return f"{self.value.name}.{axis}" + ("" if self.sole else f"/{self.factor}")


@dataclass(eq=False)
class Channels:
    """Channels in the same places, by their component numbers."""

    channels: Array
    places: list[Place]

    def __len__(self) -> int:
        return len(self.channels)

    @property
    def weights(self) -> list[Place]:
        """The places in constants of real numbers."""
        return [p for p in self.places if p.value.is_constant and p.value.type.is_float]

    @property
    def name(self) -> str:
        """The place of the first weight, else the first place."""
        return str((self.weights or self.places)[0])


@dataclass(frozen=True)
class Mark:
    """Ids to which the actions ``forbids`` cannot be done, and why."""

    ids: Array
    why: str
    forbids: Action = Action.ALL


class Ids:
    """Ids of the axes of a graph under an action.

    ``count`` ids; ``equal`` are pairs of arrays of ids that must be the same, ``balances`` lists of
    arrays with signs; ``marks`` holds what is pinned, also because factors disagree.
    """

    def __init__(self, relations: Relations, action: Action) -> None:
        self.classes = classes = Classes(relations, action)
        self.count = 0
        self._ids: list[list[Array]] = []
        for number in range(len(classes.sizes)):
            own = []
            for n in classes.factors(number):
                own.append(np.arange(self.count, self.count + n))
                self.count += n
            self._ids.append(own)
        self.marks = [
            Mark(ids, pin.why, pin.forbids)
            for pin in relations.pins
            if pin.axis in classes.of
            for ids in self._ids[classes.of[pin.axis]]
        ]
        self.equal = list(self._edges())
        self.balances = list(self._balances())

    def of(self, value: Value, axis: int) -> list[Array]:
        """Ids along an axis, one array per factor, the slowest first; none if length 1."""
        number = self.classes.of.get((value, axis))
        return [] if number is None else self._ids[number]

    def factors(self) -> Iterator[tuple[int, int, Array]]:
        """All factors: the class's number, the factor's, the ids."""
        for number, factors in enumerate(self._ids):
            for f, ids in enumerate(factors):
                yield number, f, ids

    def places(self, number: int, factor: int, power: int = 1) -> Iterator[Place]:
        """Where a factor of a class lies in tensors."""
        sole = len(self._ids[number]) == 1
        for value, axis in self.classes.members[number]:
            if not value.name.startswith("#"):
                yield Place(value, axis, factor, sole, power)

    # -- solving -----------------------------------------------------------------------------

    def _pin(self, numbers: Sequence[int], why: str) -> None:
        self.marks.extend(Mark(i, why) for n in numbers for i in self._ids[n])

    def _edges(self) -> Iterator[tuple[Array, Array]]:
        """Pairs of equal ids; relations between factors that disagree pin instead."""
        classes, ids = self.classes, self._ids
        for left, right in classes.products:
            a, b = ([i for number in side for i in ids[number]] for side in (left, right))
            if [len(i) for i in a] == [len(i) for i in b]:
                yield from zip(a, b, strict=True)
            else:
                self._pin([*left, *right], "a reshape mixes it with other axes")
        for big, indices, small in classes.indices:
            if len(ids[big]) == len(ids[small]) == 1:  # both flat: any map will do
                yield ids[big][0][indices], ids[small][0]
                continue
            pairs = self._blocks(big, indices, small)
            if pairs is None:
                self._pin([big, small], "a slice crosses its factors")
            else:
                yield from pairs

    def _blocks(self, big: int, indices: Array, small: int) -> list[tuple[Array, Array]] | None:
        """Pairs of ids where ``indices`` take whole blocks of the big axis's inner factors."""
        theirs, mine = self._ids[big], self._ids[small]
        block = self.classes.strides[big][-2] if theirs else 1
        if not theirs or not len(indices) or not in_blocks(indices, block):
            return None
        rows = theirs[0][indices.reshape(-1, block)[:, 0] // block]
        inner = theirs[1:]
        if [len(i) for i in mine] == [len(rows), *map(len, inner)]:
            return list(zip([rows, *inner], mine, strict=True))
        if len(rows) == 1 and [len(i) for i in mine] == [len(i) for i in inner]:
            self.marks.append(Mark(rows, "selected by number"))
            return list(zip(inner, mine, strict=True))
        return None

    def _balances(self) -> Iterator[list[tuple[Array, int]]]:
        """Balances of single factors; where factors disagree, pins."""
        for terms in self.classes.balances:
            factors = [self._ids[c] for c, _ in terms]
            if len({tuple(map(len, f)) for f in factors}) > 1:
                self._pin([c for c, _ in terms], "a reshape mixes it with other axes")
                continue
            for same in zip(*factors, strict=True):
                yield [(ids, sign) for ids, (_, sign) in zip(same, terms, strict=True)]
