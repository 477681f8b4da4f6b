"""``allocate-bits``: which layers' weights and which activations get more bits than others.

Every layer's weights, and all activations that share a scale, are a *site*.  The noise at the
outputs is measured for each site alone, for every number of bits; the noises of sites nearly add
up.  Within a budget the bits of least noise are then found exactly::

    minimize   sum of noise(site, bits)
    subject to sum of size(site) * bits <= budget

Where an accuracy is to be kept (``--max-drop``), the budget is the least that keeps it, found by
trying (``bits.meet``); if 8 bits everywhere do not, layers stay float, the worst ones first.

Codes of all widths have the same kernels: a budget of time decides which regions stay float.
Comes before ``quantize``, which obeys.  Does not handle: operands of 16 bits.  Sources: Dong et
al., "HAWQ-V2", 2020 (bits by sensitivities that add up); Xu et al., "Efficient Joint Optimization
of Layer-Adaptive Weight Pruning in Deep Neural Networks", 2023 (measured curves, and the program
that allocates).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.errors import PassError, PreconditionError, nearest
from ..ir.graph import Graph
from ..ir.types import Array
from .base import Kind, Pass, Statistics
from .bits.curves import curves
from .bits.knapsack import allocate
from .bits.latency import within_latency
from .bits.meet import meet
from .bits.priors import PRIORS, guessed
from .bits.sites import ACTIVATIONS, WEIGHTS, Site, sites_of, widths_of
from .bits.size import ByteBudget
from .context import Context
from .plan import plan
from .quantize import QuantizeStatic, coder_in

MEASURED = "measured"

Choice = tuple[list[Site], list[int]]
"""Sites and the bits of each."""


@dataclass(frozen=True)
class AllocateBits(Pass):
    """Decide on bits for ``quantize``; see the module's documentation.

    ``weights``, ``activations``: how many bits a weight, an activation may have on average; what is
    not given stays as ``quantize`` says.  ``bytes``: of all constants of the integer network, as
    the ledger counts them, for the weights instead of a mean; at most 1 a fraction of those with
    the bits that ``quantize`` says.  Without a budget, and without an accuracy to keep, nothing is
    decided.

    ``latency``: the part of the integer network's time that regions may take which are left in
    float for less noise (``bits.latency``); bits change no time.  ``candidates``: the numbers of
    bits to choose from; ``samples``: of the calibration data, to measure on.  ``sensitivity``: how
    noises of weights within a budget are known, ``measured`` or guessed (``lim``, ``zscore``: see
    ``bits.priors``).
    """

    name: ClassVar[str] = "allocate-bits"
    kind: ClassVar[Kind] = Kind.ANALYSIS
    requires: ClassVar[frozenset[str]] = frozenset({"canonical", "calibrated"})

    weights: float | None = None
    activations: float | None = None
    bytes: float | None = None
    latency: float | None = None
    candidates: str = "2 3 4 5 6 8"
    samples: int = 16
    sensitivity: str = MEASURED

    def __post_init__(self) -> None:
        """Refuse what are no bits."""
        if not self._bits or not all(2 <= b <= 8 for b in self._bits):
            raise PreconditionError(
                f"{self.name}.candidates = {self.candidates!r} must be numbers from 2 to 8"
            )
        for key in (WEIGHTS, ACTIVATIONS):
            mean = getattr(self, key)
            if mean is not None and mean < min(self._bits):
                raise PreconditionError(
                    f"{self.name}.{key} = {mean:g} cannot be met with candidates "
                    f"{self.candidates!r}: the least is {min(self._bits)}"
                )
        if self.samples < 1:
            raise PreconditionError(f"{self.name}.samples = {self.samples} must be above zero")
        for key in ("bytes", "latency"):
            budget = getattr(self, key)
            if budget is not None and not budget > 0:
                raise PreconditionError(f"{self.name}.{key} = {budget:g} must be above zero")
        if self.bytes is not None and self.latency is not None:
            raise PreconditionError(f"{self.name}: give bytes or latency, not both")
        if self.bytes is not None and self.weights is not None:
            raise PreconditionError(f"{self.name}: give weights or bytes, not both")
        known = (MEASURED, *PRIORS)
        if self.sensitivity not in known:
            raise PreconditionError(
                f"{self.name}.sensitivity {self.sensitivity!r} is unknown; "
                f"{nearest(self.sensitivity, known)}"
            )
        if self.sensitivity != MEASURED and self.activations is not None:
            raise PreconditionError(
                f"{self.name}.sensitivity = {self.sensitivity!r} knows weights only; leave out "
                f"{ACTIVATIONS} or take {MEASURED!r}"
            )

    @property
    def timed(self) -> bool:
        """A latency budget works with times."""
        return self.latency is not None

    def draft(self) -> None:
        """Nothing: codes of all widths have the same kernels."""

    @property
    def _bits(self) -> list[int]:
        words = self.candidates.replace(",", " ").split()
        return sorted({int(w) for w in words}) if all(w.isdigit() for w in words) else []

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Fill ``context.widths``, and ``context.chosen_float`` where 8 bits are not enough."""
        coder = coder_in(context.after)
        if coder is None:
            raise PassError(f"{self.name} decides for quantize, which does not follow it")
        for key in ("bytes", "latency"):
            if getattr(self, key) is not None and context.accuracy is not None:
                raise PreconditionError(
                    f"{self.name}: --max-drop takes as much as it must; leave out {key}, or it"
                )
        decided = plan(graph, context.kept, coder.activation_bits)
        sites = sites_of(graph, decided, context.kept)
        bits = [_given(coder, s) for s in sites]
        facts: Statistics = {}
        for kind, given in ((WEIGHTS, self.bytes or self.weights), (ACTIVATIONS, self.activations)):
            some = [i for i, s in enumerate(sites) if s.kind == kind]
            if given is not None and some:
                own = [sites[i] for i in some]
                if kind == WEIGHTS and self.bytes is not None:
                    budget = ByteBudget.of(given, graph, context, coder, own, self._bits)
                    found, facts["bytes"] = budget.met(self._losses(own, graph, context))
                else:
                    found = self._within(given, own, self._losses(own, graph, context))
                for i, n in zip(some, found, strict=True):
                    bits[i] = n
        if context.accuracy is not None and sites:
            bits, tried = meet(graph, context, coder, sites, bits, self._bits, self.samples)
            facts |= tried
        elif not self._budgeted:
            return {"rewrites": 0, "decided": "nothing: there is no budget"}
        if self.latency is not None:
            (sites, bits), timed = self._timely(self.latency, (sites, bits), graph, context, coder)
            facts |= timed
        context.widths = widths_of(sites, bits)
        return {"rewrites": 0, **means(sites, bits), **facts}

    @property
    def _budgeted(self) -> bool:
        budgets = (self.weights, self.activations, self.bytes, self.latency)
        return any(b is not None for b in budgets)

    def _timely(
        self, part: float, choice: Choice, graph: Graph, context: Context, coder: QuantizeStatic
    ) -> tuple[Choice, Statistics]:
        """What still has codes where regions stay float within a budget of time.

        Codes that begin elsewhere then have the bits that ``quantize`` says.
        """
        sites, bits = choice
        every = sorted(set(bits))
        found = curves(graph, context, sites, every, self.samples)
        noise = [float(own[every.index(n)]) for own, n in zip(found, bits, strict=True)]
        kept, taken = within_latency(part, graph, context, sites, noise)
        context.chosen_float.update(kept)
        left = sites_of(graph, plan(graph, context.kept, coder.activation_bits), context.kept)
        known = {m: n for s, n in zip(sites, bits, strict=True) for m in s.members}
        own = [known.get(s.members[0], _given(coder, s)) for s in left]
        return (left, own), {"float": len(kept), "latency": round(taken, 3)}

    def _losses(self, sites: Sequence[Site], graph: Graph, context: Context) -> list[Array]:
        """The noise of every site for every number of bits."""
        if self.sensitivity == MEASURED:
            return curves(graph, context, sites, self._bits, self.samples)
        return guessed(self.sensitivity, graph, context, sites, self._bits, self.samples)

    def _within(self, mean: float, sites: Sequence[Site], losses: Sequence[Array]) -> list[int]:
        """Bits of sites of one kind, so many on average."""
        sizes = np.array([s.size for s in sites], float)
        costs = [size * np.array(self._bits, float) for size in sizes]
        chosen = allocate(costs, losses, mean * float(sizes.sum()))
        assert chosen is not None
        return [self._bits[k] for k in chosen]


def _given(coder: QuantizeStatic, site: Site) -> int:
    """The bits that ``quantize`` says."""
    return coder.weight_bits if site.kind == WEIGHTS else coder.activation_bits


def means(sites: Sequence[Site], bits: Sequence[int]) -> dict[str, int | float | str]:
    """The mean bits of a weight and of an activation."""
    out: dict[str, int | float | str] = {}
    for kind in (WEIGHTS, ACTIVATIONS):
        pairs = [(s.size, b) for s, b in zip(sites, bits, strict=True) if s.kind == kind]
        if pairs:
            total = sum(size for size, _ in pairs)
            out[f"{kind}_bits"] = round(sum(size * b for size, b in pairs) / total, 3)
    return out
