"""Which regions stay float for the least noise within a budget of time.

Codes of all widths take the same time, so that time is no matter of bits: a region takes what it
takes in integers and makes the noise of its sites, or what it takes in float and makes none.  ::

    minimize   sum of noise(region, integer or float)
    subject to sum of seconds(region, integer or float) + the rest <= part * the integer network

The sum is what ``choose-precision`` compares, too; regions beside each other in float need fewer
conversions than it says, others more, so what was chosen is costed as a whole, and the limit moves
by what the sum was wrong.  Choices that were measured are remembered, as those of that pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...ir.errors import PreconditionError
from ...ir.graph import Graph
from ..context import Context
from ..region_times import RegionTimes, draft, time_regions
from .knapsack import allocate
from .sites import Site

PART = "latency"
"""What a remembered choice took of the time in integers; a name no node has."""

ROUNDS = 4
"""Choices that are costed to find one that takes what it may."""


def within_latency(
    part: float, graph: Graph, context: Context, sites: Sequence[Site], noise: Sequence[float]
) -> tuple[dict[str, str], float]:
    """Reasons by the names of nodes that stay float, and the part of the integer network's time.

    ``noise``: of every site with the bits it has.  ``PreconditionError`` where nobody knows what
    the target takes, or with the least possible where the budget cannot be met.
    """
    cost = context.cost
    key = _key(part, graph, context, noise)
    if cost is not None and (kept := cost.recall(key)) is not None and PART in kept:
        return kept, float(kept.pop(PART))
    times = None if cost is None else time_regions(graph, context, cost)
    if cost is None or times is None:
        raise PreconditionError(
            "allocate-bits.latency: nobody knows what this network takes on the target; give a "
            "budget of bits or bytes"
        )
    numbers = sorted(set(times.regions.values()))
    costs = [np.array([times.integer.get(r, 0.0), times.real.get(r, 0.0)]) for r in numbers]
    lost = _by_region(graph, times, sites, noise)
    losses = [np.array([lost.get(r, 0.0), 0.0]) for r in numbers]
    whole = times.rest + sum(float(c[0]) for c in costs)
    least = (times.rest + sum(float(c.min()) for c in costs)) / whole
    integer, limit = draft(graph, context), part
    for _ in range(ROUNDS):
        chosen = allocate(costs, losses, limit * whole - times.rest)
        if chosen is None:
            break
        inside = {r for r, k in zip(numbers, chosen, strict=True) if k}
        kept = {n: _why(part) for n, r in times.regions.items() if r in inside}
        quiet = replace(context, chosen_float={**context.chosen_float, **kept})
        found = cost.ratio(draft(graph, quiet), integer) if kept else 1.0
        if found <= part:
            if cost.measured:
                cost.remember(key, {**kept, PART: f"{found:.4f}"})
            return kept, found
        least, limit = min(least, found), limit * part / found
    raise PreconditionError(
        f"allocate-bits.latency = {part:g} cannot be met: the least is {least:.3f} of the time in "
        "integers; prune-channels.latency makes a network take less"
    )


def _key(part: float, graph: Graph, context: Context, noise: Sequence[float]) -> str:
    kept = [*context.kept.patterns, *sorted(context.kept.chosen)]
    losses = [float(f"{n:.3g}") for n in noise]
    text = "\n".join(["allocate-bits.latency", str(part), *kept, str(losses), str(graph)])
    return hashlib.sha256(text.encode()).hexdigest()


def _why(part: float) -> str:
    return f"within {part:g} of the time in integers (allocate-bits.latency) float loses least here"


def _by_region(
    graph: Graph, times: RegionTimes, sites: Sequence[Site], noise: Sequence[float]
) -> dict[int, float]:
    """The noise of all sites of a region: of the nodes that make or read their numbers."""
    total: dict[int, float] = {}
    for site, own in zip(sites, noise, strict=True):
        values = [graph[m] for m in site.members if m in graph]
        makers = [v.producer.name for v in values if v.producer is not None]
        readers = [node.name for v in values for node in v.uses]
        names = [graph.nodes[site.index].name, *makers, *readers]
        near = [times.regions[n] for n in names if n in times.regions]
        if near:
            total[near[0]] = total.get(near[0], 0.0) + float(own)
    return total
