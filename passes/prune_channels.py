"""``prune-channels``: coupled channels go until a budget is met; layers that stay make up for it.

1. The coupling analysis finds the groups of channels that can go together.
2. A criterion orders the channels of each group: ``obs`` (by the error that their removal causes
   once the other columns are updated), ``fluctuation`` (by how much they vary), ``taylor`` (by
   gradients), ``l1``, ``l2`` (by the size of their weights).
3. An allocation decides how many go where: ``uniform``, ``ranked`` (by importance per cost over
   all groups), ``rate-distortion`` (by measured distortion of the outputs); ``auto`` takes the
   best of the last two, and of the last one without residual streams, as measured after
   compensation on samples that it did not see.
4. Layers are compensated: ``joint`` (fitted at once), ``sequential`` (in order, on what the pruned
   network really gives them), or ``none``.

Without calibration data images are made up (``pruning.synthetic``); the ledger says so.

Sources: see the modules of ``passes/pruning``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import islice
from typing import ClassVar

import numpy as np

from ..ir.actions import delete
from ..ir.coupling import ChannelGroup, Coupling
from ..ir.errors import PassError, PreconditionError, nearest
from ..ir.graph import Graph
from ..ir.types import Array
from ..ir.untie import tie, untie
from .base import Kind, Pass, Statistics
from .context import Context, Feed, Pruned
from .moments import Moments
from .pruning.allocation import (
    Limits,
    per_cost,
    promising,
    ranked,
    rate_distortion,
    refill,
    uniform,
)
from .pruning.budget import UNITS, Budget
from .pruning.compensate import POSITIONS, WIDEST, assign, joint, sequential
from .pruning.curves import Curves
from .pruning.distortion import Distortion
from .pruning.importance import AGGREGATES, MAGNITUDES, fluctuations, magnitudes, normalize
from .pruning.latency import Latency, fingerprint
from .pruning.obs import eliminate
from .pruning.readers import Reader, add_biases, readers
from .pruning.synthetic import synthetic
from .pruning.taylor import taylor
from .streaming import stream

CHOICES = {
    "criterion": ("obs", "fluctuation", "taylor", *MAGNITUDES),
    "aggregate": tuple(AGGREGATES),
    "normalize": ("auto", "none", "mean", "sum", "max", "gauss", "lamp"),
    "allocation": ("auto", "uniform", "ranked", "rate-distortion"),
    "compensate": ("sequential", "joint", "none"),
}
HALF = 0.5
"""What is kept if nothing is said."""

JUDGE = 4
"""Every fourth sample judges what the others are fitted to."""

Way = Callable[[Limits], Array]
"""How counts are found that stay within limits."""


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Remove channels until a fraction of the network's cost is left.

    ``macs``, ``parameters``, ``bytes``, ``latency``: the fraction, of one of them (half of the
    multiply-accumulates if none is given; 1 leaves the network alone).  The latency is that of what
    the following passes make of the network, on the target: measured where the compiler can
    measure, else estimated.

    ``aggregate`` and ``normalize`` say how magnitudes of weights become importances (see
    ``pruning.importance``); ``samples`` of the calibration data are used, ``curve_samples`` for
    distortion curves; groups keep at least ``min_channels`` and a multiple of ``round_to`` (0: of
    what kernels of the target work on together for a latency, of 1 for other budgets); ``only`` and
    ``skip`` are patterns of weights, separated by commas.
    """

    macs: float | None = None
    parameters: float | None = None
    bytes: float | None = None
    latency: float | None = None
    criterion: str = "obs"
    aggregate: str = "mean"
    normalize: str = "auto"
    allocation: str = "auto"
    compensate: str = "sequential"
    samples: int = 256
    curve_samples: int = 64
    min_channels: int = 1
    round_to: int = 0
    only: str = "*"
    skip: str = ""

    name: ClassVar[str] = "prune-channels"
    kind: ClassVar[Kind] = Kind.LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def __post_init__(self) -> None:
        for field, known in CHOICES.items():
            if (value := getattr(self, field)) not in known:
                raise PreconditionError(
                    f"{self.name}: {field} {value!r} is unknown; {nearest(value, known)}"
                )
        given = [u for u in UNITS if getattr(self, u) is not None]
        if len(given) > 1:
            raise PreconditionError(f"{self.name}: give one of {', '.join(given)}, not several")
        if any(not 0 < getattr(self, u) <= 1 for u in given):
            raise PreconditionError(
                f"{self.name}: {given[0]} is the fraction kept, above 0 and at most 1"
            )
        if min(self.samples, self.curve_samples, self.min_channels) < 1 or self.round_to < 0:
            raise PreconditionError(
                f"{self.name}: samples, curve_samples, min_channels are at least 1, round_to 0"
            )

    @property
    def unit(self) -> str:
        """What the budget counts."""
        return next((u for u in UNITS if getattr(self, u) is not None), "macs")

    @property
    def fraction(self) -> float:
        """The part of it that is kept."""
        given = getattr(self, self.unit)
        return HALF if given is None else float(given)

    @property
    def timed(self) -> bool:
        """A latency budget works with times."""
        return self.unit == "latency"

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Prune ``graph`` in place; statistics of what went."""
        if self.fraction == 1:
            return {"rewrites": 0}
        work = graph.copy()
        untie(work)
        add_biases(work)
        pruning = _Pruning(self, work, context)
        small, chosen = pruning.run()
        tie(small)
        context.pruned += [
            Pruned(group.name, len(group), int(count))
            for group, count in zip(pruning.groups, chosen, strict=True)
        ]
        small.properties |= graph.properties
        sizes = np.array([len(g) for g in pruning.groups])
        graph.become(small)
        return {
            "rewrites": int((sizes - chosen).sum()),
            "groups": len(sizes),
            "channels": int(sizes.sum()),
            self.unit: round(pruning.part(chosen), 4),
            "distortion": round(pruning.best, 6),
            "singular": sum(m.singular for m in pruning.moments.values()),
            "data": "synthetic" if pruning.made_up else "calibration",
        }


class _Pruning:
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
        self.best = float("inf")

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
        curves: list[Array] = []
        if how == "uniform":
            ways.append((limits, uniform))
        if how in ("ranked", "auto"):
            ways.append((limits, lambda limits: ranked(limits, per_cost(limits.budget, gains))))
        if how in ("rate-distortion", "auto"):
            moments = self.moments if self.how.compensate != "none" else {}
            measure = Curves(self.coupling, self.readers, moments, self.distortion, self.context)
            curves = measure.of(self.groups, orders)
            inner = self._inner()
            wide = [limits, inner] if how == "auto" and inner is not limits else [limits]
            ways += [(w, lambda limits: rate_distortion(limits, curves)) for w in wide]
        return promising([self._met(own, way, gains) for own, way in ways], curves)

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
