"""One run of ``prune-channels`` over one graph: orders, counts, the network that is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ...ir.actions import delete
from ...ir.coupling import ChannelGroup, Coupling
from ...ir.errors import PassError
from ...ir.graph import Graph
from ...ir.types import Array
from ..context import Context, Feed
from ..fitting.fit import POSITIONS, WIDEST
from ..statistics.moments import Moments
from ..statistics.streaming import stream
from .allocation import (
    Limits,
    per_cost,
    predicted,
    promising,
    ranked,
    rate_distortion,
    refill,
    uniform,
)
from .budget import Budget
from .compensate import assign, joint, sequential
from .curves import Curves
from .distortion import Distortion
from .importance import MAGNITUDES, fluctuations, magnitudes, normalize
from .latency import Latency, fingerprint
from .obs import eliminate
from .readers import Reader, readers
from .synthetic import synthetic
from .taylor import taylor

if TYPE_CHECKING:
    from ..prune_channels import PruneChannels

JUDGE = 4
"""Every fourth sample judges what the others are fitted to."""

Way = Callable[[Limits], Array]
"""How counts are found that stay within limits."""


class Pruning:
    """One run of the pass over one graph."""

    def __init__(self, how: PruneChannels, graph: Graph, context: Context) -> None:
        self.how, self.graph = how, graph
        self.coupling = coupling = Coupling(graph)
        self.groups = [g for g in coupling.deletable() if self._wanted(g)]
        if not self.groups:
            raise PassError(_nothing(coupling))
        self.made_up = context.calibration is None
        self.feeds = self._feeds(context)
        self.latency = self._latency(context)
        self.known = self.latency.recall() if self.latency else None
        if self.known is None:
            self.limits.check()
        self.readers = readers(coupling)
        judges = self.feeds[::JUDGE][: how.curve_samples]
        seen = {id(f) for f in judges} if len(self.feeds) > JUDGE else set()
        self.fitted = [f for f in self.feeds if id(f) not in seen]
        self.context = replace(context, calibration=self.fitted)
        self.distortion = Distortion(graph, self.context, judges)
        self.moments = self._moments()
        self.curves: list[Array] = []
        self.best = self.predicted = float("inf")

    def _latency(self, context: Context) -> Latency | None:
        """What times networks on the target, if the budget is a latency."""
        if not self.how.timed:
            return None
        of = fingerprint(self.graph, self.feeds, f"{self.how} {context.after}")
        return Latency(self.coupling, self.groups, context, of)

    @cached_property
    def limits(self) -> Limits:
        """What may be kept."""
        how, latency = self.how, self.latency
        step = how.round_to or (latency.cost.lanes if latency else 1)
        if latency is not None:
            latency.explore(step)
        budget = latency.budget() if latency else Budget.of(self.coupling, self.groups, how.unit)
        sizes = budget.sizes
        least = np.minimum(np.maximum(how.min_channels, step), sizes)
        steps = np.full(len(sizes), step)
        return Limits(budget, how.fraction * budget.cost(sizes), least, steps)

    def run(self) -> tuple[Graph, Array]:
        """The pruned graph and how many channels of each group stay."""
        found = [self._order(g) for g in self.groups]
        orders, gains = [f[0] for f in found], [f[1] for f in found]
        known = self.known
        candidates = self._allocations(orders, gains) if known is None else [known]
        few = self.fitted[: 2 * self.how.curve_samples]
        errors = [self.distortion.of(self._pruned(orders, kept, few)) for kept in candidates]
        best = int(np.argmin(errors))
        self.predicted = predicted(candidates[best], self.curves)
        self.best = errors[best]  # on samples that the fit had not seen; in the end it sees all
        if self.latency is not None and known is None:
            self.latency.remember(candidates[best])
        return self._pruned(orders, candidates[best], self.feeds), candidates[best]

    def part(self, kept: Array) -> float:
        """The fraction of the cost that is left; of a latency as it was timed."""
        if self.latency is not None:
            return self.latency.part(kept)
        return self.limits.budget.cost(kept) / self.limits.whole

    def _feeds(self, context: Context) -> list[Feed]:
        """Calibration data, or what stands in for it."""
        if self.made_up:
            return synthetic(self.graph, context, self.how.samples)
        return list(islice(context.feeds(self.how.name), self.how.samples))

    def _wanted(self, group: ChannelGroup) -> bool:
        names = [p.value.name for p in group.weights]
        only = any(fnmatchcase(n, p) for n in names for p in self.how.only.split(","))
        return only and not any(fnmatchcase(n, p) for n in names for p in self.how.skip.split(","))

    def _moments(self) -> dict[str, Moments]:
        """Moments of the inputs of the layers that may lose some, where anything needs them."""
        how = self.how
        curves = how.allocation in ("auto", "rate-distortion") and how.compensate != "none"
        if how.criterion not in ("obs", "fluctuation") and how.compensate != "joint" and not curves:
            return {}
        loses = np.zeros(self.coupling.count, bool)
        loses[np.concatenate([g.channels for g in self.groups])] = True
        found = {
            r.name: Moments(r.layer, POSITIONS)
            for r in self.readers
            if r.dropped(loses).any() and r.layer.width <= WIDEST
        }
        values = [(m.layer.node.operands[0].name, m) for m in found.values()]
        stream(self.graph, self.context, values, "observe inputs")
        return found

    def _order(self, group: ChannelGroup) -> tuple[Array, Array]:
        """Components by importance, the least important first, and what each removal loses."""
        how = self.how
        mine = [r for r in self.readers if r.name in self.moments]
        mine = [r for r in mine if np.isin(r.elements, group.channels).any()]
        if how.criterion == "obs" and mine:
            order, gains = eliminate(group, mine, self.moments)
            scale = "none" if how.normalize == "auto" else how.normalize
            return order, np.append(normalize(gains[:-1], scale), np.inf)
        scores, scale = self._scores(group, mine)
        scores = normalize(scores, scale if how.normalize == "auto" else how.normalize)
        rising = np.argsort(scores, kind="stable")
        return group.channels[rising], np.append(scores[rising][:-1], np.inf)

    def _scores(self, group: ChannelGroup, mine: list[Reader]) -> tuple[Array, str]:
        """What every channel matters by itself, and how that compares between groups."""
        how = self.how
        if how.criterion == "taylor":
            return self.gradients[group.name], "none"
        if how.criterion == "fluctuation" and mine:
            return fluctuations(group, mine, self.moments), "none"
        criterion = how.criterion if how.criterion in MAGNITUDES else "l2"
        return magnitudes(self.coupling, group, criterion, how.aggregate), "mean"

    @cached_property
    def gradients(self) -> dict[str, Array]:
        """What every channel matters to first order, by the name of the group."""
        few = self.fitted[: self.how.curve_samples]
        found = taylor(self.coupling, self.groups, self.context, few, self.how.aggregate)
        return dict(zip((g.name for g in self.groups), found, strict=True))

    def _allocations(self, orders: Sequence[Array], gains: list[Array]) -> list[Array]:
        """Counts that meet the budget, one for each way that is tried."""
        how, limits = self.how.allocation, self.limits
        if how == "auto" and self.made_up:  # images that are made up cannot judge the others
            how = "rate-distortion"
        ways: list[tuple[Limits, Way]] = []
        if how == "uniform":
            ways.append((limits, uniform))
        if how in ("ranked", "auto"):
            ways.append((limits, lambda limits: ranked(limits, per_cost(limits.budget, gains))))
        if how in ("rate-distortion", "auto"):
            moments = self.moments if self.how.compensate != "none" else {}
            measure = Curves(self.coupling, self.readers, moments, self.distortion, self.context)
            self.curves = curves = measure.of(self.groups, orders)
            inner = self._inner()
            wide = [limits, inner] if how == "auto" and inner is not limits else [limits]
            ways += [(w, lambda limits: rate_distortion(limits, curves)) for w in wide]
        return promising([self._met(own, way, gains) for own, way in ways], self.curves)

    def _met(self, limits: Limits, way: Way, gains: list[Array]) -> Array:
        """Counts within the budget, with what the way left over given back; a latency is timed."""

        def allocate(own: Limits) -> Array:
            return refill(replace(own, least=self.limits.least), way(own), gains)

        if self.latency is None:
            return allocate(limits)
        return self.latency.met(limits, self.how.fraction, allocate)

    def _inner(self) -> Limits:
        """Limits that leave the groups alone that sums tie together, where that is possible.

        A residual stream passes every layer, and what it loses cannot be made up for behind it.
        """
        sums = [v for n in self.graph.nodes if n.op.name == "Add" for v in n.operands]
        tied = {id(v) for v in sums if not v.is_constant}
        streams = np.array([any(id(p.value) in tied for p in g.places) for g in self.groups])
        least = np.where(streams, self.limits.budget.sizes, self.limits.least)
        inner = replace(self.limits, least=least)
        return inner if streams.any() and inner.fits(least) else self.limits

    def _pruned(self, orders: Sequence[Array], kept: Array, feeds: Sequence[Feed]) -> Graph:
        """The graph without the least important channels, compensated on ``feeds``."""
        gone = np.zeros(self.coupling.count, bool)
        for order, count in zip(orders, kept, strict=True):
            gone[order[: len(order) - int(count)]] = True
        small = delete(self.coupling, gone)
        if self.how.compensate == "joint":
            data = joint(self.coupling, self.readers, self.moments, gone)
            assign(small, {n: self._kept(n, array, gone) for n, array in data.items()})
        elif self.how.compensate == "sequential":
            sequential(self.coupling, small, gone, self.context, feeds)
        return small

    def _kept(self, name: str, array: Array, gone: Array) -> Array:
        for axis, stays in enumerate(self.coupling.keeps(self.graph[name], gone)):
            if not stays.all():
                array = np.compress(stays, array, axis)
        return array


def _nothing(coupling: Coupling) -> str:
    found = [g for g in coupling.groups if g.weights and len(g) > 1]
    why = ", ".join(sorted({f"{g.name} ({g.pinned})" for g in found if g.pinned})[:5])
    return f"no channels can be deleted: {why or 'the network has no weights'}"
