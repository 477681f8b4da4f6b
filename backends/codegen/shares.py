"""Which calls of a program several threads share, and where they wait for each other."""

from collections.abc import Mapping
from dataclasses import dataclass

from .program import Program
from .regions import times
from .tuning.profile import estimate

ALONE = 2e-6
"""Seconds, by estimate, above which threads that share a call gain more than waiting costs."""

WAKE = 40e-6
"""The same for all such calls together: a thread that sleeps takes 5 to 15 microseconds to come."""


@dataclass(frozen=True)
class Shares:
    """For each call: whether threads split it, and whether they all wait until it is done."""

    split: tuple[bool, ...]
    wait: tuple[bool, ...]


def shares_of(program: Program, extents: Mapping[str, int]) -> Shares | None:
    """By estimates of the kernels and their numbers of independent iterations.

    None where the first thread had better do all.  Threads need not wait between two calls that the
    first one makes, nor after the last call.
    """
    seconds, symbols = estimate(program), [call.symbol for call in program.calls]
    split = [extents[s] > 1 and seconds[s] > ALONE for s in symbols]
    counts = times(program.regions, len(symbols))
    if (
        sum(n * seconds[s] for n, s, both in zip(counts, symbols, split, strict=True) if both)
        <= WAKE
    ):
        return None
    # What comes next is known at run time only: all threads look at conditions and go around loops.
    edges = {i for r in program.regions for i in (r.first - 1, r.last - 1)}
    wait = [i in edges or any(split[i : i + 2]) for i in range(len(symbols))]
    if not any(r.trips > 1 and r.last == len(symbols) for r in program.regions):
        wait[-1] = False
    return Shares(tuple(split), tuple(wait))
