"""TVM's MetaSchedule as a searcher: schedules of a workload's naive computation.

Its evolutionary search proposes schedules in a child process, starting from the best of what the
database knows; everything else is ours: measuring, limits, records, and the check against the
integer reference (``checked``).  Nothing of the search itself is kept, so that it can be killed
and resumed at any time.
"""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ....ir.types import Array
from ..kernels import SCHEDULED, ConvWorkload, has_plain
from ..pool import Pool
from ..template import TemplateKernel, scheduled
from .records import describe
from .regression import Regression
from .searchers import Results

TRIALS = 64
"""Schedules that are tried for a workload."""

ROUND = 16
"""Schedules that are asked for at once."""

ATTEMPTS = 2
"""Rounds in a row that may give nothing before a workload is left."""

LEARN = 8
"""Measured schedules from which on their times are learned from."""

CHANCE = 0.4
"""Part of a round that goes by chance all the same, since what was learned may mislead."""

_POPULATION = 64
_SPARE = 2
_INTRINSICS = "tvm.s_tir.tensor_intrin"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Propose:
    """A round of the search, to be done in a process that may die: traces as JSON text.

    ``known``: traces with seconds; ``tried``: those that are not wanted again.
    """

    workload: ConvWorkload
    features: frozenset[str]
    target: tuple[tuple[str, object], ...]
    known: tuple[tuple[str, float], ...]
    tried: frozenset[str]
    count: int
    seed: int

    def __call__(self) -> list[str]:
        """At most ``count`` new traces whose kernels are within the limits of memory."""
        _leave_out_intrinsics()
        from tvm.s_tir import meta_schedule as ms

        context, module = self._context(ms)
        spaces = list(context.generate_design_space())
        fused = [s for s in spaces if _is_fused(s.trace)]
        wanted = _SPARE * self.count
        context.pre_tuning(
            wanted, wanted, fused or spaces, self._database(ms, module, context.target),
            self._model(ms),
        )  # fmt: skip
        found = context.generate_measure_candidates() or []
        texts = dict.fromkeys(text_of(candidate.sch.trace) for candidate in found)
        new = [t for t in texts if t not in self.tried]
        return [t for t in new if scheduled(self.workload, self.features, t).fits][: self.count]

    def _context(self, ms: Any) -> tuple[Any, Any]:
        """What MetaSchedule works in, with its rules for any cpu, and the computation."""
        import tvm

        from ..kernels.plain import NAME, plain

        module = tvm.IRModule({NAME: plain(self.workload)})
        rules = ms.space_generator.PostOrderApply(
            sch_rules="llvm", postprocs="llvm", mutator_probs="llvm"
        )
        strategy = ms.search_strategy.EvolutionarySearch(
            population_size=_POPULATION,
            init_measured_ratio=0.5,
            init_min_unmeasured=24,
            eps_greedy=CHANCE,
        )
        context = ms.TuneContext(
            module,
            target=tvm.target.Target({**dict(self.target), "num-cores": 1}),
            space_generator=rules,
            search_strategy=strategy,
            num_threads=1,  # with more the search cannot be repeated
            rand_state=self.seed,
            logger=log,
        )
        return context, module

    def _model(self, ms: Any) -> Any:
        """What the search asks which schedules are worth trying: chance, then what was learned."""
        if len(self.known) < LEARN:
            return ms.cost_model.RandomModel(seed=self.seed)
        return learned(self.known)

    def _database(self, ms: Any, module: Any, target: Any) -> Any:
        """What was measured, as MetaSchedule keeps it."""
        from tvm import s_tir

        database = ms.database.MemoryDatabase()
        workload = database.commit_workload(module)
        for trace, seconds in self.known:
            schedule = s_tir.Schedule(module)
            s_tir.schedule.Trace.apply_json_to_schedule(json.loads(trace), schedule)
            record = ms.database.TuningRecord(schedule.trace, workload, [seconds], target)
            database.commit_tuning_record(record)
        return database


@dataclass
class MetaSchedule:
    """The searcher: the kernel by estimate first, for comparison, then rounds of schedules.

    ``target``: TVM's description.  Layers in float have no schedules: sums of reals depend on
    their order.
    """

    target: dict[str, object]
    trials: int = TRIALS
    _failures: dict[str, int] = field(default_factory=dict)

    def first(self, kernel: TemplateKernel, known: Results) -> list[TemplateKernel]:
        """The kernel by estimate."""
        return [] if kernel in known else [kernel]

    def more(self, kernel: TemplateKernel, known: Results, pool: Pool) -> list[TemplateKernel]:
        """The next round; a round that dies or hangs is lost, a second one ends the search."""
        name = describe(kernel.workload)
        while (left := self._left(kernel, known)) and self._failures.get(name, 0) < ATTEMPTS:
            found = self._ask(kernel, known, pool, min(left, ROUND))
            if isinstance(found, list) and found:
                self._failures.pop(name, None)
                return [scheduled(kernel.workload, kernel.features, t) for t in found]
            self._failures[name] = self._failures.get(name, 0) + 1
            why = found if isinstance(found, str) else "found no new schedule"
            log.warning("metaschedule, %s: %s", name, why)
        return []

    def steps(self, waiting: list[TemplateKernel], known: Results) -> int:
        """The trials that are left, and the kernel by estimate."""
        return len(waiting) + max(0, self.trials - sum(1 for _ in _scheduled(known)))

    def _left(self, kernel: TemplateKernel, known: Results) -> int:
        if not has_plain(kernel.workload):
            return 0
        return max(0, self.trials - sum(1 for _ in _scheduled(known)))

    def _ask(self, kernel: TemplateKernel, known: Results, pool: Pool, count: int) -> object:
        """New traces, or why there are none."""
        tried = dict(_scheduled(known))
        times = {t: s for t, s in tried.items() if s is not None}
        timed = sorted(times.items(), key=lambda item: item[1])
        seed = 1 + len(tried) + 1000 * self._failures.get(describe(kernel.workload), 0)
        job = Propose(
            kernel.workload, kernel.features, tuple(self.target.items()), tuple(timed),
            frozenset(tried), count, seed,
        )  # fmt: skip
        return next(iter(pool.results({"qc_propose": job})))[1]


def learned(known: Sequence[tuple[str, float]]) -> Any:
    """A cost model of MetaSchedule's: how many times as fast as the best known one."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir import meta_schedule as ms

    fitted = Regression.fit(*zip(*known, strict=True))
    best = min(seconds for _, seconds in known)

    @derived_object
    class Learned(ms.cost_model.PyCostModel):  # type: ignore[misc]
        def predict(self, context: Any, candidates: Any) -> Array:
            return best / fitted.seconds([text_of(c.sch.trace) for c in candidates])

    return Learned()


def text_of(trace: Any) -> str:
    """A trace of TVM's as JSON text."""
    return json.dumps(_plain(trace.as_json()), separators=(",", ":"))


def _scheduled(known: Results) -> Iterator[tuple[str, float | None]]:
    """The traces of what is known, with their times."""
    return ((k.knobs.trace, r.seconds) for k, r in known.items() if k.name == SCHEDULED)


def _is_fused(trace: Any) -> bool:
    """Whether the epilogue is in the tiles of the sum: else all sums are kept until the end."""
    return any(i.kind.name == "ReverseComputeAt" for i in trace.insts)


def _plain(value: Any) -> Any:
    """TVM's numbers as Python's."""
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return getattr(value, "value", value)


def _leave_out_intrinsics() -> None:
    """Keep TVM from parsing its library of tensor intrinsics, of which our rules use none.

    That takes a minute of every process; ``TuneContext`` imports them whether they are asked for
    or not.
    """
    sys.modules.setdefault(_INTRINSICS, ModuleType(_INTRINSICS))
