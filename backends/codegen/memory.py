"""Static planning of the activation arena.

Greedy by size: big buffers first, each into the smallest hole between the buffers placed already
that live at the same time (Pisarchyk and Lee, "Efficient memory management for deep neural net
inference", 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .layout import round_up

ALIGNMENT = 64
SLACK = 64
"""Bytes behind each buffer that kernels may read."""


@dataclass(frozen=True)
class Interval:
    """A buffer of ``size`` bytes, in use from step ``first`` to step ``last``, both included."""

    size: int
    first: int
    last: int

    @property
    def room(self) -> int:
        """Bytes that it takes in the arena."""
        return round_up(self.size + SLACK, ALIGNMENT)

    def meets(self, other: "Interval") -> bool:
        """Whether both are in use at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Byte offsets, one per interval, and the size of the arena."""

    offsets: tuple[int, ...]
    peak: int


def plan(intervals: Sequence[Interval]) -> Plan:
    """Place all intervals so that none that meet overlap."""
    order = sorted(range(len(intervals)), key=lambda i: (-intervals[i].room, i))
    offsets: dict[int, int] = {}
    for i in order:
        taken = sorted(
            (offsets[j], offsets[j] + intervals[j].room)
            for j in offsets
            if intervals[j].meets(intervals[i])
        )
        offsets[i] = _best_hole(taken, intervals[i].room)
    peak = max((offsets[i] + x.room for i, x in enumerate(intervals)), default=0)
    return Plan(tuple(offsets[i] for i in range(len(intervals))), peak)


def _best_hole(taken: Sequence[tuple[int, int]], room: int) -> int:
    """Start of the smallest hole of at least ``room`` bytes, else the end of all."""
    best, best_size, end = -1, -1, 0
    for start, stop in taken:
        hole = start - end
        if hole >= room and (best < 0 or hole < best_size):
            best, best_size = end, hole
        end = max(end, stop)
    return best if best >= 0 else end
