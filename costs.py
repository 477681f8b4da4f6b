"""What graphs cost on a target, for passes: measured where somebody measures, else estimated."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from .ir.errors import BackendError
from .ir.graph import Graph
from .measurers import measurer_here
from .targets import Target
from .tuning import COMPILE_SECONDS

if TYPE_CHECKING:
    from .backends.codegen.program import Program
    from .backends.codegen.tuning.measurer import Measurer
    from .backends.codegen.tuning.profile import Profiler
    from .backends.codegen.tuning.records import Database


@contextmanager
def cost_on(
    target: Target, database: Database, measurer: Measurer | None = None, wanted: str = ""
) -> Iterator[TargetCost | None]:
    """What passes ask; None for CUDA, where nobody knows times of what no template makes.

    ``wanted``: see ``TargetCost``.
    """
    if target.arch:
        yield None
        return
    with closing(TargetCost(target, database, measurer, wanted)) as cost:
        yield cost


class TargetCost:
    """The ``Cost`` of passes, by what ``measurer`` (None: nobody) says; to be closed.

    ``wanted``: whose decisions count where nobody measures (default: this machine's, else the last
    ones).  What nobody decided is estimated, records or not: they hold few of the kernels that
    passes compare, times are not compared with estimates, and estimates are of the kernels that
    estimates choose.
    """

    def __init__(
        self,
        target: Target,
        database: Database,
        measurer: Measurer | None = None,
        wanted: str = "",
    ) -> None:
        self._target, self._database, self._measurer = target, database, measurer
        self._name = measurer.name if measurer else wanted or measurer_here(target)
        self._only = bool(measurer or wanted)
        self._profiler: Profiler | None = None
        self._open = ExitStack()

    def close(self) -> None:
        """End the processes that compiled, if there were any."""
        self._open.close()

    @property
    def measured(self) -> bool:
        """Whether somebody measures."""
        return self._measurer is not None

    @property
    def lanes(self) -> int:
        """Sums in a vector, or codes that integer tensors are padded to."""
        from .backends.codegen.layout import LANES

        return max(LANES, self._target.vector_bytes // 4)

    def seconds(self, graph: Graph) -> dict[str, float] | None:
        """Time by node name; None for a graph that cannot be compiled."""
        from .backends.codegen.tuning.profile import by_node, estimate

        try:
            program = self._lowered(graph)
        except BackendError:
            return None
        if self._measurer is None:
            return by_node(program, estimate(program))
        return by_node(program, self._profiled(self._measurer).measure(program))

    def ratio(self, graph: Graph, other: Graph) -> float:
        """What one graph takes of the time of another; timed side by side where somebody measures.

        Raises ``BackendError`` for a graph that cannot be compiled.
        """
        from .backends.codegen.tuning.profile import estimate, total

        one, whole = self._lowered(graph), self._lowered(other)
        if self._measurer is None:
            return total(one, estimate(one)) / total(whole, estimate(whole))
        return self._profiled(self._measurer).ratio(one, whole)

    def _lowered(self, graph: Graph) -> Program:
        from .backends.codegen.lower import lower
        from .backends.codegen.template import by_estimate
        from .backends.codegen.tuning.choices import Choices

        choices = Choices(self._target, self._database, self._name)
        choose = by_estimate if self._measurer is None else choices
        return lower(graph, self._target.features, choose, keep_constants=False)

    def recall(self, key: str) -> dict[str, str] | None:
        """What was decided for a network on this target.

        Who measures, or is ``wanted``, takes nobody else's word.
        """
        from .backends.codegen.tuning.records import Setting

        setting = Setting.of(self._target)
        return self._database.decision(setting, key, self._name, only=self._only)

    def remember(self, key: str, decision: Mapping[str, str]) -> None:
        """Store a decision in the database."""
        from .backends.codegen.tuning.records import Decision, Setting

        assert self._measurer is not None
        setting, items = Setting.of(self._target), tuple(sorted(decision.items()))
        self._database.decide(Decision(setting, self._measurer.name, key, items))

    def _profiled(self, measurer: Measurer) -> Profiler:
        if self._profiler is None:
            from .backends.codegen.pool import Pool
            from .backends.codegen.tuning.profile import Profiler

            pool = self._open.enter_context(
                Pool(os.cpu_count() or 1, COMPILE_SECONDS, lasting=True)
            )
            target = self._target
            self._profiler = Profiler(target.tvm(), target.l2, measurer, pool)
        return self._profiler
