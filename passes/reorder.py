"""``reorder``: coupled channels in an order in which the blocks of number formats lose less.

Rows of ``W_k`` sorted by size, with the same permutation in ``W_q``, leave every product of queries
and keys alone, but keys of one size then share a block.  The same holds for any channels that are
coupled: hidden channels of an MLP, of values and the projection behind them, of convolutions,
heads, residual streams.  The pairs that a rotary embedding turns move as pairs, together with its
tables; the coupling analysis knows which channels those are, and `permute` refuses others.  ::

    %h = MatMul(%x, %w1)   %y = MatMul(Relu(%h), %w2)
    ->
    %h = MatMul(%x, %w1[:, order])   %y = MatMul(Relu(%h), %w2[order])

Every order is judged by what the formats lose, over weights and calibration samples (relative error
energies of all slots, added up); a group stays as it is unless that falls.  Nothing is gained where
a block holds all channels of a group.  Rotated axes are left alone.

Source: Guo et al., "Accurate Block Quantization in LLMs with Outliers", 2024, section 3 (K-sort).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from ..ir.actions import permute, permute_within
from ..ir.coupling import ChannelGroup, Coupling
from ..ir.errors import PreconditionError
from ..ir.graph import Graph
from ..ir.types import Array
from ..ir.untie import tie, untie
from .base import Kind, Pass, Statistics
from .blocks.reordering import Reordering, Sample
from .blocks.rotary_tables import spread_tables
from .blocks.slots import Slot
from .context import Context
from .encode import EncodeFormats
from .measure import weight_bytes


@dataclass(frozen=True)
class Reorder(Pass):
    """Sort coupled channels so that those of one size share a block.

    ``samples`` of the calibration data are looked at (without any: weights alone).  ``tables``:
    ``shared`` by all heads, or ``per-head``: each head orders its rotary pairs by itself, for which
    the tables get as many rows as there are heads.
    """

    samples: int = 4
    tables: str = "shared"

    name: ClassVar[str] = "reorder"
    kind: ClassVar[Kind] = Kind.EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def __post_init__(self) -> None:
        """Refuse what is no choice."""
        if self.tables not in ("shared", "per-head"):
            raise PreconditionError(
                f"{self.name}.tables = {self.tables!r} is neither 'shared' nor 'per-head'"
            )
        if self.samples < 1:
            raise PreconditionError(f"{self.name}.samples = {self.samples} is less than 1")

    def draft(self) -> None:
        """The order of channels takes no time."""
        return

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Reorder ``graph`` in place; the objective before and after."""
        encode = next((p for p in context.after if isinstance(p, EncodeFormats)), None)
        if encode is None:
            raise PreconditionError(
                f"{self.name} sorts for the blocks of an 'encode' pass: put one behind it"
            )
        run = self._run(graph, context, encode, spread=False)
        if self.tables == "per-head":
            wider = self._run(graph, context, encode, spread=True)
            run = min(run, wider, key=lambda r: r.error)
        groups, size = run.coupling.permutable(), weight_bytes(graph)
        if run.moved:
            ordered = _applied(run)
            tie(ordered)
            ordered.properties |= graph.properties
            graph.become(ordered)
        return {
            "rewrites": len(run.moved),
            "groups": len(groups),
            "rotated": sum(_rotated(g, context) for g in groups),
            "error_before": round(run.before, 9),
            "error_after": round(run.error, 9),
            "added_bytes": weight_bytes(graph) - size,
        }

    def _run(
        self, graph: Graph, context: Context, encode: EncodeFormats, spread: bool
    ) -> Reordering:
        """The orders for a copy of ``graph``, whose tables are spread over heads or are not."""
        work = graph.copy()
        untie(work)
        if spread:
            spread_tables(work)
        slots = {s.key: s for s in encode.slots(work, context).found}
        samples = _samples(work, context, list(slots.values()), self.samples)
        run = Reordering(Coupling(work), samples)
        groups = [g for g in run.coupling.permutable() if not _rotated(g, context)]
        for sort in (run.sort, run.sort_within):
            run.moved.update(dict.fromkeys(g.name for g in groups if sort(g)))
        return run


def _applied(run: Reordering) -> Graph:
    graph = permute(run.coupling, run.source)
    for group, blocks, order in run.within:
        coupling = Coupling(graph)  # of the same structure: the same groups
        graph = permute_within(coupling, _same(coupling, group), _same(coupling, blocks), order)
    return graph


def _same(coupling: Coupling, group: ChannelGroup) -> ChannelGroup:
    return next(g for g in coupling.groups if np.array_equal(g.channels, group.channels))


def _rotated(group: ChannelGroup, context: Context) -> bool:
    return any((p.value.name, p.axis) in context.rotated for p in group.weights)


def _samples(graph: Graph, context: Context, slots: Sequence[Slot], count: int) -> list[Sample]:
    """The numbers of every slot; activations only where there is calibration data."""
    seen: dict[str, list[Array]] = {s.value.name: [] for s in slots if s.value.data is None}
    if context.calibration is not None and seen:
        run = context.open(graph, list(seen))
        for feed in islice(context.feeds("reorder"), count):
            for name, array in run(feed).items():
                seen[name].append(np.asarray(array, np.float32))
    out = []
    for slot in slots:
        data = slot.value.data
        arrays = seen[slot.value.name] if data is None else [np.asarray(data, np.float32)]
        if arrays:
            out.append(Sample(slot, arrays))
    return out
