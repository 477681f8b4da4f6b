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

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.errors import PreconditionError, nearest
from ..ir.graph import Graph
from ..ir.untie import tie, untie
from .base import Kind, Pass, Statistics
from .context import Context, Pruned
from .pruning.budget import UNITS
from .pruning.importance import AGGREGATES, MAGNITUDES
from .pruning.pruning import Pruning
from .pruning.readers import add_biases

CHOICES = {
    "criterion": ("obs", "fluctuation", "taylor", *MAGNITUDES),
    "aggregate": tuple(AGGREGATES),
    "normalize": ("auto", "none", "mean", "sum", "max", "gauss", "lamp"),
    "allocation": ("auto", "uniform", "ranked", "rate-distortion"),
    "compensate": ("sequential", "joint", "none"),
}
HALF = 0.5
"""What is kept if nothing is said."""


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
        pruning = Pruning(self, work, context)
        small, chosen = pruning.run()
        tie(small)
        context.pruned += [
            Pruned(group.name, len(group), int(count))
            for group, count in zip(pruning.groups, chosen, strict=True)
        ]
        small.properties |= graph.properties
        sizes = np.array([len(g) for g in pruning.groups])
        graph.become(small)
        curves = {"predicted": round(pruning.predicted, 6)} if pruning.curves else {}
        return {
            "rewrites": int((sizes - chosen).sum()),
            "groups": len(sizes),
            "channels": int(sizes.sum()),
            self.unit: round(pruning.part(chosen), 4),
            **curves,
            "distortion": round(pruning.best, 6),
            "singular": sum(m.singular for m in pruning.moments.values()),
            "data": "synthetic" if pruning.made_up else "calibration",
        }
