"""Channel shuffles: reshapes, transposes and slices that only move the elements of one axis.

Seen node by node an axis is divided into two free factors, and scales would have to be products of
one factor each.  Seen as one, every element behind the shuffle is some element before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..graph import Graph, Node, Value
from ..ops.index import Gather, Slice
from ..ops.shape import Reshaping, Split, Transpose
from ..types import Array


@dataclass(frozen=True)
class Moved:
    """``value`` is what was shuffled, with the elements ``indices`` along ``axis``."""

    value: Value
    axis: int
    indices: Array


@dataclass
class Shuffle:
    """The nodes of one shuffle of ``before``, the values that only it sees, and its results."""

    before: Value
    nodes: list[Node] = field(default_factory=list)
    inner: list[Value] = field(default_factory=list)
    results: list[Moved] = field(default_factory=list)


def shuffles(graph: Graph) -> Iterator[Shuffle]:
    """All shuffles of a graph whose inner values nothing else reads."""
    seen: set[int] = set()
    for node in graph.nodes:
        if isinstance(node.op, Reshaping) and id(node) not in seen and _moves(node):
            found = _shuffle(graph, node)
            if found is not None and found.inner:
                seen.update(map(id, found.nodes))
                yield found


def _shuffle(graph: Graph, first: Node) -> Shuffle | None:
    """Follow what ``first`` makes until it is the operand's elements again; None if it never is."""
    found = Shuffle(first.operands[0])
    shape = found.before.type.static
    places = {id(found.before): np.arange(found.before.type.size).reshape(shape)}
    waiting = [first]
    while waiting:
        node = waiting.pop()
        found.nodes.append(node)
        x, *rest = node.operands
        moved = node.op.eval([places[id(x)], *(v.data for v in rest)])
        for value, place in zip(node.outputs, moved, strict=True):
            result = _moved(value, place, shape)
            if result is not None:
                found.results.append(result)
            elif graph.is_output(value) or not all(_moves(n, value) for n in value.uses):
                return None
            else:
                found.inner.append(value)
                places[id(value)] = place
                waiting += dict.fromkeys(value.uses)
    return found


def _moves(node: Node, value: Value | None = None) -> bool:
    """Whether a node only moves the elements of its first operand (which is ``value``)."""
    x, *rest = node.operands
    return (
        isinstance(node.op, Reshaping | Transpose | Slice | Split | Gather)
        and (value is None or x is value)
        and all(v.is_constant for v in rest)
        and all(isinstance(d, int) for v in (x, *node.outputs) for d in v.type.shape)
    )


def _moved(value: Value, place: Array, shape: tuple[int, ...]) -> Moved | None:
    """A value whose elements come from ``place``, if these differ along one axis at most."""
    if place.ndim != len(shape):
        return None
    sources = np.unravel_index(place, shape)
    own = np.indices(place.shape)
    axes = [
        k for k, d in enumerate(shape) if place.shape[k] != d or np.any(sources[k] != own[k])
    ] or [0]
    if len(axes) > 1:
        return None
    along = np.moveaxis(sources[axes[0]], axes[0], 0).reshape(place.shape[axes[0]], -1)
    if not np.all(along == along[:, :1]):
        return None
    return Moved(value, axes[0], along[:, 0])
