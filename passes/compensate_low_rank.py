"""``compensate-low-rank``: what rounded weights lost, given back by two small int8 layers.

Layer after layer, what its rounded weights lack (to do what the float network does on the inputs
that the quantized one gives it) is approximated by ``up @ down`` of a low rank, so that least of
the layer's *results* is lost.  Both factors are int8, and so is what lies between them: everything
folds to integers.  ::

    %y = Conv(%x.d, W)
    ->
    %y.mended = Add(Conv(%x.d, W), Conv(Quantize(Conv(%x.d, down)), up))

Goes between ``quantize`` and ``fold-integers``.  Does not handle: layers that sum over more than
``WIDEST`` numbers, and those that stay float.

Source: Yao et al., "ZeroQuant-V2", 2023, section 5 (LoRC).  Weighing by the inputs' second
moments, fitting on inputs of the quantized network, and ranks by measured noise are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from typing import ClassVar

from ..ir.errors import PreconditionError
from ..ir.graph import Graph
from .base import Kind, Pass, Statistics
from .context import Context
from .low_rank.branches import Branches


@dataclass(frozen=True)
class CompensateLowRank(Pass):
    """Branches of rank ``rank`` or less beside quantized layers; see the module's documentation.

    ``bytes``: by how much they may make the constants larger, as a fraction; ranks are then what
    lowers the noise at the outputs most, predicted from that of each layer's weights, measured on
    ``noise_samples`` of the calibration data (none: every layer gets ``rank``).  ``samples`` of
    them fit the branches.  ``only`` and ``skip``: patterns of layers, separated by commas.
    """

    rank: int = 8
    bytes: float | None = None
    samples: int = 128
    noise_samples: int = 16
    only: str = "*"
    skip: str = ""

    name: ClassVar[str] = "compensate-low-rank"
    kind: ClassVar[Kind] = Kind.LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"quantized"})

    def __post_init__(self) -> None:
        """Refuse ranks, counts and budgets that are none."""
        for option in ("rank", "samples", "noise_samples"):
            if getattr(self, option) < 1:
                raise PreconditionError(f"{self.name}.{option} is less than 1")
        if self.bytes is not None and not self.bytes > 0:
            raise PreconditionError(f"{self.name}.bytes = {self.bytes:g} is not above 0")

    def draft(self) -> None:
        """Nothing: what branches take of the time is not weighed."""

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Insert the branches; ``PreconditionError`` behind anything but ``quantize``."""
        if context.real is None or "integer" in graph.properties:
            raise PreconditionError(
                f"{self.name} makes up for what `quantize` has rounded; put it right behind that"
            )
        feeds = list(islice(context.feeds(self.name), self.samples))
        work = Branches(context.real, graph, context, feeds, self._wants)
        ranks = dict.fromkeys(work.layers, self.rank)
        if self.bytes is not None:
            ranks = work.within(self.bytes, self.rank, self.noise_samples)
        found = work.fitted(ranks)
        for branch in found:
            branch.insert(graph)
        graph.prune()
        return {
            "rewrites": len(found),
            "ranks": sum(branch.rank for branch in found),
            "added_bytes": sum(branch.bytes for branch in found),
        }

    def _wants(self, name: str) -> bool:
        only = any(fnmatchcase(name, p) for p in self.only.split(","))
        return only and not any(fnmatchcase(name, p) for p in self.skip.split(","))
