"""What a network takes on the target, by how many channels of each group stay.

Copies of the network with fewer channels (which ones does not matter) go through the passes that
come after pruning, as cheaply as these can, and the target says what every node of the result
takes.  The time of a node is then fitted, by least squares without negative parts, as ::

    seconds = multiply-accumulates * a + elements written * b + elements read * c + d

which is a sum of products of counts, like the other budgets.  The more copies are timed, the better
it fits; what an allocation really takes is always timed in the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

import numpy as np
from scipy.optimize import nnls

from ...ir.actions import delete
from ...ir.coupling import Axis, ChannelGroup, Coupling
from ...ir.errors import PassError, PreconditionError
from ...ir.graph import Graph, Node, Value
from ...ir.types import Array
from ..context import Context, Cost, Feed
from ..measure import mac_axes
from .allocation import CLOSE, Limits
from .budget import Budget, Lengths, Product, value

SAMPLES = 2
"""Of the calibration data: enough to find some range for every value."""

ROUNDS = 4
"""Allocations that are timed to find one that takes what it may."""

PART = "latency"
"""What a remembered allocation took of the whole network's time; a name no group has."""

RANDOM = 4
"""Copies with random counts, beside the whole network and half of it."""


@dataclass
class Latency:
    """Times copies of the analysed network after the passes that follow.

    ``name`` is what an allocation is remembered under.  ``PreconditionError`` where nobody knows
    what the target takes.
    """

    coupling: Coupling
    groups: Sequence[ChannelGroup]
    context: Context
    name: str = ""
    _timed: list[tuple[Array, dict[str, float]]] = field(default_factory=list)
    _parts: list[tuple[Array, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lengths = Lengths(self.coupling, self.groups)
        self.sizes = np.array([len(g) for g in self.groups], np.int64)

    @property
    def cost(self) -> Cost:
        """What knows the target."""
        if self.context.cost is None:
            raise PreconditionError(
                "nobody knows what this target takes: give a budget of macs, parameters or bytes"
            )
        return self.context.cost

    def explore(self, step: int) -> None:
        """Time the whole network, half of it, and some with random multiples of ``step``."""
        sizes = self.sizes
        rng = np.random.default_rng(self.context.seed)
        parts = [np.ones(len(sizes)), np.full(len(sizes), 0.5)]
        parts += [rng.uniform(0.2, 1.0, len(sizes)) for _ in range(RANDOM)]
        progress = self.context.progress
        if progress is not None:
            progress.start("time on the target", len(parts))
        for part in parts:
            counts = np.maximum(np.round(part * sizes / step).astype(np.int64) * step, step)
            self.seconds(np.where(part == 1, sizes, np.minimum(counts, sizes)))
            if progress is not None:
                progress.advance()
        if progress is not None:
            progress.done()

    def seconds(self, kept: Array) -> float:
        """What the network takes with ``kept`` channels, int64 ``[groups]``."""
        for before, found in self._timed:
            if np.array_equal(before, kept):
                return sum(found.values())
        drafted = self._drafted(kept)
        times = self.cost.seconds(drafted)
        if times is None:
            raise PassError("there is no code for this network: give a budget of macs")
        self._timed.append((kept, _by_owner(drafted, self.coupling.graph, times)))
        return sum(times.values())

    def part(self, kept: Array) -> float:
        """Which part of the whole network's time this is, the two timed side by side."""
        for before, found in self._parts:
            if np.array_equal(before, kept):
                return found
        self._parts.append((kept, self.cost.ratio(self._drafted(kept), self._whole)))
        return self._parts[-1][1]

    @cached_property
    def _whole(self) -> Graph:
        return self._drafted(self.sizes)

    def recall(self) -> Array | None:
        """The counts that were remembered, int64 ``[groups]``."""
        found = self.cost.recall(self.name)
        if found is None or len(found) != len(self.groups) + 1:
            return None
        kept = np.array([int(found[g.name]) for g in self.groups], np.int64)
        self._parts.append((kept, float(found[PART])))
        return kept

    def remember(self, kept: Array) -> None:
        """Store counts, if they were measured, for later compilations."""
        if self.cost.measured:
            counts = {g.name: str(int(n)) for g, n in zip(self.groups, kept, strict=True)}
            self.cost.remember(self.name, {**counts, PART: f"{self.part(kept):.4f}"})

    def met(self, limits: Limits, part: float, allocate: Callable[[Limits], Array]) -> Array:
        """Counts of an allocation that is timed to take ``part`` of the whole, or a little less.

        The limit moves by what the fit was wrong, and the fit learns of it.
        """
        tried: list[tuple[float, Array]] = []
        for _ in range(ROUNDS):
            kept = allocate(limits)
            tried.append((found := self.part(kept), kept))
            if CLOSE <= found / part <= 1:
                break
            self.seconds(kept)
            budget = self.budget()
            limits = replace(limits, budget=budget, limit=budget.cost(kept) * part / found)
        fits = [t for t in tried if t[0] <= part / CLOSE]
        return max(fits, key=lambda t: t[0])[1] if fits else min(tried, key=lambda t: t[0])[1]

    def budget(self) -> Budget:
        """What was timed so far as a function of counts."""
        return Budget(self._lengths, "latency", self._terms())

    def _drafted(self, kept: Array) -> Graph:
        """The network with ``kept`` channels after the passes that follow."""
        gone = np.zeros(self.coupling.count, bool)
        for group, count in zip(self.groups, kept, strict=True):
            gone[group.channels[int(count) :]] = True
        graph = delete(self.coupling, gone)
        given = self.context.calibration
        few = None if given is None else list(islice(given, SAMPLES))
        quiet = replace(
            self.context, calibration=few, cost=None, progress=None, evaluate=None,
            ranges={}, moments={}, why_float={}, chosen_float={}, pruned=[],
        )  # fmt: skip
        graph.properties |= self.coupling.graph.properties
        for one in self.context.after:
            if (draft := one.draft()) is not None:
                draft.apply(graph, quiet)
                graph.properties |= draft.establishes
        return graph

    def _terms(self) -> Iterator[tuple[float, Product]]:
        counts = [kept.tolist() for kept, _ in self._timed]
        for name, axes in _parts(self.coupling.graph):
            times = np.array([found.get(name, 0.0) for _, found in self._timed])
            if not times.any():
                continue
            terms = [self._lengths.product(a) for a in axes]
            sizes = np.array([[s * value(p, kept) for s, p in terms] for kept in counts])
            largest = sizes.max(0)
            weights, _ = nnls(sizes / largest, times)
            for weight, most, (fixed, product) in zip(weights, largest, terms, strict=True):
                yield float(weight / most) * fixed, product


def fingerprint(graph: Graph, feeds: Sequence[Feed], options: str) -> str:
    """A hash of all that an allocation depends on, but for the target."""
    found = hashlib.sha256(f"{options}\n{graph}".encode())
    for constant in graph.constants:
        found.update(np.ascontiguousarray(constant.data).tobytes())
    for feed in feeds:
        for name in sorted(feed):
            found.update(np.ascontiguousarray(feed[name]).tobytes())
    return found.hexdigest()


def _parts(graph: Graph) -> Iterator[tuple[str, list[list[Axis]]]]:
    """Names of nodes, and the axes whose lengths multiply to what their time may depend on."""
    yield "", [[]]
    for node in graph.nodes:
        read = [_axes(v) for v in node.operands if not v.is_constant]
        written = [_axes(v) for v in node.outputs]
        own = mac_axes(node)
        yield node.name, [[], *([own] if own else []), *written, *read]


def _axes(value: Value) -> list[Axis]:
    return [(value, k) for k in range(value.type.rank)]


def _by_owner(lowered: Graph, graph: Graph, seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds by the node of ``graph`` that they serve: of the same name, else the next to it."""
    owners = {node.name: node.name for node in graph.nodes}

    def adopt(node: Node, near: Iterable[Node]) -> None:
        if node.name not in owners:
            for found in (owners[n.name] for n in near if n.name in owners):
                owners[node.name] = found
                return

    for node in lowered.nodes:
        adopt(node, (v.producer for v in node.operands if v.producer is not None))
    for node in reversed(lowered.nodes):
        adopt(node, (user for v in node.outputs for user in v.uses))
    total: dict[str, float] = {}
    for name, time in seconds.items():
        owner = owners.get(name, "")
        total[owner] = total.get(owner, 0.0) + time
    return total
