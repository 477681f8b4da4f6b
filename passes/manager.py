"""The pass manager: checks the order, runs, times, verifies contracts, writes the ledger."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from ..ir.errors import ContractError, PassError, PreconditionError, QcError
from ..ir.graph import Graph
from ..ir.types import Array
from ..ir.verify import verify
from .base import Kind, Pass
from .context import Context, Feed
from .ledger import Ledger, Row
from .measure import relative_difference, sqnr_db

log = logging.getLogger(__name__)

LOWERING_DB, LOWERING_MARGIN = 30.0, 6.0
"""How far lowering may fall behind its float simulation, in dB: single steps that round differently
spread like quantization noise in deep networks, so the two are compared by their distance from the
loaded network (of which what lies above 30 dB does not count)."""

EXACT_TOLERANCE = 1e-4
"""Greatest relative change of an output that an EXACT pass may cause (float32 rounding)."""


@dataclass
class PassManager:
    """Runs passes in order on a copy of a graph.

    Raises ``PreconditionError`` before anything runs if the order is wrong, ``ContractError`` if a
    pass breaks its contract (checked for every pass when ``context.verify``), ``PassError`` with
    the passes already run if one fails.  ``later``: passes that somebody will run after these.
    """

    passes: Sequence[Pass]
    later: Sequence[Pass] = ()
    _reference: list[list[Array]] = field(default_factory=list, repr=False)
    _last: list[list[Array]] = field(default_factory=list, repr=False)

    def check_order(self, properties: set[str]) -> None:
        """Raise ``PreconditionError`` unless every requirement is established before its use."""
        have = set(properties)
        for one in self.passes:
            if missing := one.requires - have:
                makers = ", ".join(sorted(missing))
                raise PreconditionError(
                    f"{one.name} needs a graph that is {makers}; put a pass that makes it so first"
                )
            have |= one.establishes

    def run(
        self, graph: Graph, context: Context, ledger: Ledger | None = None
    ) -> tuple[Graph, Ledger]:
        """The transformed copy of ``graph`` and the ledger (``ledger`` continued, if given)."""
        self.check_order(graph.properties)
        graph = graph.copy()
        probes = context.probes(graph)
        fresh = ledger is None
        if ledger is None:
            ledger = Ledger()
            row = ledger.add("load", Kind.ANALYSIS, 0.0, {}, graph)
            row.metric = context.evaluate(graph) if context.evaluate else None
        if fresh or not self._reference:
            self._reference = self._last = _outputs(graph, context, probes)
        for i, one in enumerate(self.passes):
            context.after = (*self.passes[i + 1 :], *self.later)
            self._step(one, graph, context, ledger, probes)
        return graph, ledger

    def _step(
        self,
        one: Pass,
        graph: Graph,
        context: Context,
        ledger: Ledger,
        probes: list[Feed],
    ) -> None:
        before = str(graph) if context.verify and one.kind is Kind.ANALYSIS else ""
        started = perf_counter()
        try:
            statistics = one.apply(graph, context)
        except PassError:
            raise
        except QcError as error:
            raise type(error)(f"{one.name}: {error}") from error
        except (ValueError, IndexError, KeyError, TypeError) as error:
            done = ", ".join(row.name for row in ledger.rows)
            raise PassError(f"{one.name} failed after {done}: {error}") from error
        seconds = perf_counter() - started
        if before and str(graph) != before:
            raise ContractError(f"{one.name} is an analysis but changed the graph")
        graph.properties |= one.establishes
        row = ledger.add(one.name, one.kind, seconds, statistics, graph)
        log.info("%s: %d rewrites in %.2f s", one.name, row.rewrites, seconds)
        if one.kind is Kind.ANALYSIS:
            row.sqnr_db, row.metric = ledger.rows[-2].sqnr_db, ledger.rows[-2].metric
            return
        verify(graph)
        self._measure(one, graph, context, row, probes)

    def _measure(
        self,
        one: Pass,
        graph: Graph,
        context: Context,
        row: Row,
        probes: list[Feed],
    ) -> None:
        if one.kind is not Kind.EXACT or context.verify:
            results = _outputs(graph, context, probes)
            check_contract(one, self._reference, self._last, results)
            self._last = results
        db = sqnr_db(_flat(self._reference), _flat(self._last))
        row.sqnr_db = None if math.isinf(db) else db
        row.metric = context.evaluate(graph) if context.evaluate else None


def check_contract(
    one: Pass, loaded: list[list[Array]], before: list[list[Array]], after: list[list[Array]]
) -> None:
    """Raise ``ContractError`` unless the outputs on the probes fit the pass's kind.

    Lowering from the float simulation may round a sum differently; it must not end noticeably
    farther from the network as ``loaded`` than the simulation does.
    """
    if one.kind is Kind.EXACT:
        worst = relative_difference(_flat(before), _flat(after))
        if not worst <= EXACT_TOLERANCE:
            raise ContractError(
                f"{one.name} is exact but changed the outputs by {worst:.2g} (relative)"
            )
    if one.kind is Kind.LOWERING:
        simulated = min(sqnr_db(_flat(loaded), _flat(before)), LOWERING_DB)
        lowered = sqnr_db(_flat(loaded), _flat(after))
        if lowered < simulated - LOWERING_MARGIN:
            raise ContractError(
                f"{one.name} says the same in integers but brought outputs to {lowered:.1f} dB, "
                f"the simulation to {simulated:.1f} dB"
            )
    if _finite(before) and not _finite(after):
        raise ContractError(f"{one.name} made outputs that are not finite")


def _finite(outputs: list[list[Array]]) -> bool:
    return all(bool(np.isfinite(a).all()) for a in _flat(outputs) if a.dtype.kind == "f")


def _outputs(graph: Graph, context: Context, probes: list[Feed]) -> list[list[Array]]:
    names = [v.name for v in graph.outputs]
    run = context.open(graph, names)
    return [[result[n] for n in names] for result in map(run, probes)]


def _flat(outputs: list[list[Array]]) -> list[Array]:
    return [array for one in outputs for array in one]
