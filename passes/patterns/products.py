"""What a value is as a product of tensors over named axes, seen through what only moves elements.

An element of a value stands at *coordinates*: a letter runs over a whole axis, a number is one
position.  Going back through transpositions, slices and multiplications, ``exp(delta[b, t, d] *
A[d, n])`` is recognised however an exporter has arranged it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ...ir.graph import Node, Value
from ...ir.ops.elementwise import Exp, Identity, Mul
from ...ir.ops.index import Gather, Slice
from ...ir.ops.shape import Expand, Flatten, Reshape, Split, Squeeze, Transpose, Unsqueeze

Index = str | int
At = tuple[Index, ...]
"""One coordinate per axis; axes of length 1 are always at 0."""


class Factor(NamedTuple):
    """Elements of a tensor that is no product itself."""

    value: Value
    at: At

    @property
    def letters(self) -> frozenset[str]:
        """The axes that it runs over."""
        return frozenset(i for i in self.at if isinstance(i, str))


class Power(NamedTuple):
    """``e`` to the product of ``factors``."""

    factors: tuple[Factor, ...]


class Entered(NamedTuple):
    """What an input of an inner graph stands for; ``scanned`` along axis 0 (letter ``t``)."""

    value: Value
    scanned: bool


@dataclass(frozen=True)
class Products:
    """Reads products; ``inputs`` says by identity what inputs of an inner graph stand for."""

    inputs: Mapping[int, Entered] = field(default_factory=dict)

    def factors(self, value: Value, at: At) -> list[Factor | Power]:
        """The factors of the elements of ``value`` at ``at`` (which may be of a wider shape)."""
        at = aligned(value, at)
        node = value.producer
        if node is None:
            entered = self.inputs.get(id(value))
            if entered is None:
                return [Factor(value, at)]
            return self.factors(entered.value, ("t", *at) if entered.scanned else at)
        if isinstance(node.op, Mul):
            return [f for v in node.operands for f in self.factors(v, at)]
        if isinstance(node.op, Exp):
            inner = self.factors(node.operands[0], at)
            if all(isinstance(f, Factor) for f in inner):
                return [Power(tuple(f for f in inner if isinstance(f, Factor)))]
        elif (back := source(node, value, at)) is not None:
            return self.factors(*back)
        return [Factor(value, at)]


def aligned(value: Value, at: At) -> At:
    """Coordinates in ``value`` of an element of what it broadcasts to."""
    own = at[len(at) - value.type.rank :]
    return tuple(0 if d == 1 else i for d, i in zip(value.type.shape, own, strict=True))


def source(node: Node, value: Value, at: At) -> tuple[Value, At] | None:
    """Where ``node``, if it only moves elements, has taken its result's element from."""
    x = node.operands[0]
    match node.op:
        case Identity():
            return x, at
        case Transpose(perm=perm):
            return x, tuple(at[perm.index(k)] for k in range(len(at)))
        case Reshape() | Flatten() | Squeeze() | Unsqueeze():
            return _regrouped(x, value, at)
        case Expand() if len(node.operands) == 1:
            return x, aligned(x, at)
        case Slice(starts=tuple()):
            return _cut(x, [*node.op.indices(x.type.shape)], value, at)
        case Split(axis=axis, sizes=sizes):
            return _part(x, axis % x.type.rank, sum(sizes[: node.outputs.index(value)]), at)
        case Gather(axis=axis) if (index := node.operands[1].data) is not None and index.ndim == 0:
            k = axis % x.type.rank
            length = x.type.shape[k]
            if isinstance(length, int):
                return x, (*at[:k], int(index) % length, *at[k:])
    return None


def _regrouped(x: Value, value: Value, at: At) -> tuple[Value, At] | None:
    """Axes of length 1 come and go; nothing else is followed."""
    kept = [(d, i) for d, i in zip(value.type.shape, at, strict=True) if d != 1]
    if [d for d, _ in kept] != [d for d in x.type.shape if d != 1]:
        return None
    rest = iter(i for _, i in kept)
    return x, tuple(0 if d == 1 else next(rest) for d in x.type.shape)


def _cut(x: Value, taken: list[np.ndarray], value: Value, at: At) -> tuple[Value, At] | None:
    back: list[Index] = []
    for k, (i, indices) in enumerate(zip(at, taken, strict=True)):
        whole = x.type.shape[k] == value.type.shape[k]
        straight = not isinstance(x.type.shape[k], int) or bool((np.diff(indices) > 0).all())
        if isinstance(i, int):
            back.append(int(indices[i]))
        elif whole and straight:
            back.append(i)
        else:
            return None
    return x, tuple(back)


def _part(x: Value, axis: int, start: int, at: At) -> tuple[Value, At] | None:
    i = at[axis]
    return (x, (*at[:axis], start + i, *at[axis + 1 :])) if isinstance(i, int) else None
