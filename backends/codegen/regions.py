"""Calls that are repeated or depend on data: stretches of a program's flat list of calls.

Stretches nest and never cross.  A loop is one that is repeated; a branch is two, of which one runs
where the condition holds and the other where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ...ir.errors import BackendError

if TYPE_CHECKING:
    from .program import Call, Pointer

Span = tuple[int, int]
"""The first and the last call that uses some memory."""


@dataclass
class Region:
    """The calls ``first <= i < last``, run ``trips`` times; ``condition`` is looked at each time.

    The condition is a byte; the calls run where it is not 0 (``when``), or where it is.
    """

    first: int
    last: int
    trips: int = 1
    condition: Pointer | None = None
    when: bool = True


@dataclass
class Tree:
    """A region with those inside of it, in the order of their calls."""

    region: Region
    inner: list[Tree] = field(default_factory=list)


def nested(regions: Sequence[Region], calls: int) -> Tree:
    """The regions of a program as a tree; its root is the whole program.

    Of two with the same calls the outer one was opened, and so is listed, first.
    """
    root = Tree(Region(0, calls))
    path = [root]
    for region in sorted(regions, key=lambda r: (r.first, -r.last)):
        if region.first == region.last:
            continue
        while path[-1].region.last <= region.first:
            path.pop()
        path[-1].inner.append(Tree(region))
        path.append(path[-1].inner[-1])
    return root


def times(regions: Sequence[Region], calls: int) -> list[int]:
    """How often each call runs at most."""
    counts = [1] * calls
    for region in regions:
        for i in range(region.first, region.last):
            counts[i] *= region.trips
    return counts


def held(span: Span, regions: Sequence[Region]) -> Span:
    """The calls during which memory must be kept, by the first and the last that use it.

    What a loop and something outside of it use is kept for the whole loop: another iteration
    reads it again.
    """
    first, last = span
    for region in sorted(regions, key=lambda r: r.last - r.first):
        apart = last < region.first or first >= region.last
        inside = region.first <= first and last < region.last
        if region.trips > 1 and not apart and not inside:
            first, last = min(first, region.first), max(last, region.last - 1)
    return first, last


def unrolled(calls: Sequence[Call], regions: Sequence[Region]) -> list[Call]:
    """All calls one after the other; ``BackendError`` where data decide which of them run."""
    if deciding := next((r for r in regions if r.condition is not None), None):
        node = calls[min(deciding.first, len(calls) - 1)].node
        raise BackendError(
            f"node {node!r}: what data decide cannot run on a device that is given its launches "
            "beforehand; compile for a cpu"
        )
    return list(_stretch(nested(regions, len(calls)), calls, 0))


def _stretch(tree: Tree, calls: Sequence[Call], trip: int) -> Iterator[Call]:
    at = tree.region.first
    for inner in tree.inner:
        yield from (_moved(c, trip) for c in calls[at : inner.region.first])
        for i in range(inner.region.trips):
            yield from _stretch(inner, calls, i)
        at = inner.region.last
    yield from (_moved(c, trip) for c in calls[at : tree.region.last])


def _moved(call: Call, trip: int) -> Call:
    """The call of one iteration."""
    if not any(p.step for p in call.pointers):
        return call
    pointers = (replace(p, offset=p.offset + trip * p.step, step=0) for p in call.pointers)
    return replace(call, pointers=tuple(pointers))
