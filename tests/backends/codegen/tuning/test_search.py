"""The search finds the best kernel, remembers failures, respects its time, and goes on later."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

import pytest

pytest.importorskip("tvm")

from workloads import pointwise

from qc.backends.codegen.kernels import Epilogue
from qc.backends.codegen.template import TemplateKernel, by_estimate, candidates
from qc.backends.codegen.tuning.measurer import Timing
from qc.backends.codegen.tuning.records import Database, Setting
from qc.backends.codegen.tuning.search import BATCH, Tuner, distinct, speedup
from qc.backends.codegen.tuning.trial import Trial
from qc.backends.codegen.worker import Compile
from qc.ir.errors import BackendError
from qc.progress import Silent
from qc.targets import load

X86 = load("x86")
AVX2 = X86.features


class Untouched:
    """A pool that hands jobs through: the "object" of a kernel is its place among the jobs."""

    jobs: list[TemplateKernel]
    broken: Callable[[TemplateKernel], bool]

    def __init__(self, broken: Callable[[TemplateKernel], bool] = lambda k: False) -> None:
        self.jobs, self.broken = [], broken

    def results(self, jobs: Mapping[str, Compile]):  # type: ignore[no-untyped-def]
        for name, job in jobs.items():
            self.jobs.append(job.kernel)  # type: ignore[arg-type]
            if self.broken(self.jobs[-1]):
                yield name, "took more than 20 s"
            else:
                yield name, (b"%d" % (len(self.jobs) - 1), 1)


@dataclass
class Scripted:
    """A measurer that knows how fast every kernel is."""

    pool: Untouched
    seconds: Callable[[TemplateKernel], Timing]
    name: str = "scripted"
    width: int = 1
    groups: list[list[TemplateKernel]] = field(default_factory=list)
    dies_after: int = 10**9

    def measure(self, groups: Sequence[Mapping[str, Trial]]) -> list[dict[str, Timing]]:
        if len(self.groups) >= self.dies_after:
            raise BackendError("the device is gone")
        assert 0 < len(groups) <= self.width
        found = []
        for trials in groups:
            kernels = {n: self.pool.jobs[int(t.object)] for n, t in trials.items()}
            assert len({k.workload for k in kernels.values()}) == 1, "one workload in a group"
            self.groups.append(list(kernels.values()))
            found.append({name: self.seconds(kernel) for name, kernel in kernels.items()})
        return found


def tune(
    database: Database,
    seconds: Callable[[TemplateKernel], Timing],
    workloads: Mapping[TemplateKernel, int],
    budget: float = 60.0,
    **how: object,
) -> tuple[list, Scripted]:  # type: ignore[type-arg]
    """The tasks and the measurer after a search."""
    pool = Untouched(how.pop("broken", lambda k: False))  # type: ignore[arg-type]
    measurer = Scripted(pool, seconds, **how)  # type: ignore[arg-type]
    tuner = Tuner(X86, measurer, database, pool)  # type: ignore[arg-type]
    return tuner.tune(workloads, budget, Silent()), measurer


def default(channels: int = 64) -> TemplateKernel:
    return by_estimate(pointwise(channels=channels), AVX2)


def test_the_best_of_all_is_found_wherever_it_is() -> None:
    for place in (0, 7, -1):
        hidden = candidates(pointwise(), AVX2)[place]
        database = Database()
        tasks, _ = tune(database, lambda k, h=hidden: 1e-6 if k == h else 2e-6, {default(): 3})
        assert tasks[0].best == hidden
        assert not tasks[0].waiting
        assert speedup(tasks) == (1.0 if place == 0 else 2.0)


def test_what_is_known_is_not_measured_again() -> None:
    database = Database()
    _, first = tune(database, lambda k: k.cost * 1e-9, {default(): 1})
    assert len(first.groups) > 2
    tasks, second = tune(database, lambda k: 1.0, {default(): 1})
    assert second.groups == []
    assert tasks[0].seconds[tasks[0].best] < 1e-2


def test_failures_are_remembered_and_cost_themselves_alone() -> None:
    kernels = candidates(pointwise(), AVX2)
    database = Database()
    tasks, _ = tune(
        database,
        lambda k: "died of signal 4" if k == kernels[2] else 1e-6 * (1 + kernels.index(k)),
        {default(): 1},
        broken=lambda k: k == kernels[0],
    )
    assert {k: r.error for k, r in tasks[0].results.items() if r.error} == {
        kernels[0]: "took more than 20 s",
        kernels[2]: "died of signal 4",
    }
    assert tasks[0].best == kernels[1]
    _, second = tune(database, lambda k: 1.0, {default(): 1})
    assert second.groups == []


def test_all_kernels_may_fail() -> None:
    tasks, _ = tune(Database(), lambda k: "died of signal 11", {default(): 1})
    assert tasks[0].best == default()
    assert speedup(tasks) == 1.0


def test_no_time_means_no_measurements() -> None:
    began = monotonic()
    tasks, measurer = tune(Database(), lambda k: 1e-6, {default(): 1}, budget=1e-9)
    assert measurer.groups == []
    assert tasks[0].best == default()
    assert monotonic() - began < 10


def test_every_workload_is_measured_before_one_is_exhausted() -> None:
    workloads = {default(c): 1 for c in (32, 64, 96)}
    _, measurer = tune(Database(), lambda k: k.cost * 1e-9, workloads)
    first = [group[0].workload.x.channels for group in measurer.groups[:3]]
    assert first == [96, 64, 32], "by their estimates, the longest first"


def test_what_takes_longest_comes_next() -> None:
    workloads = {default(32): 1, default(64): 1000}
    _, measurer = tune(Database(), lambda k: k.cost * 1e-9, workloads)
    assert [g[0].workload.x.channels for g in measurer.groups[2:5]] == [64, 64, 64]


def test_the_anchor_takes_out_the_drift_of_the_machine() -> None:
    """A machine that gets slower and slower does not make early kernels look better."""
    kernels = candidates(pointwise(), AVX2)
    best = kernels[-1]
    clock = iter(range(10**6))
    speed: dict[str, float] = {}

    def seconds(kernel: TemplateKernel) -> float:
        slow = 1.0 + 0.5 * (next(clock) // (BATCH + 1))
        speed["now"] = slow
        return slow * (1e-6 if kernel == best else 1.2e-6)

    tasks, _ = tune(Database(), seconds, {default(): 1})
    assert tasks[0].best == best


def test_a_lost_device_ends_the_run_and_keeps_the_records() -> None:
    database = Database()
    with pytest.raises(BackendError, match="the device is gone"):
        tune(database, lambda k: k.cost * 1e-9, {default(): 1}, dies_after=2)
    known = sum(map(len, database.records.values()))
    assert known == 2 * BATCH + 0
    tasks, second = tune(database, lambda k: k.cost * 1e-9, {default(): 1})
    again = [k for group in second.groups for k in group]
    assert not tasks[0].waiting
    assert len(set(again) - {tasks[0].best}) < len(candidates(pointwise(), AVX2)) - BATCH


def test_wide_measurers_get_several_workloads_at_once() -> None:
    workloads = {default(c): 1 for c in (32, 64, 96)}
    tasks, measurer = tune(Database(), lambda k: k.cost * 1e-9, workloads, width=3)
    assert [g[0].workload.x.channels for g in measurer.groups[:3]] == [96, 64, 32]
    assert all(not t.waiting for t in tasks)


def test_workloads_that_differ_in_numbers_are_one() -> None:
    other = replace(pointwise(), epilogue=Epilogue("uint8", 3, 4, 200))
    workloads = {default(): 2, by_estimate(other, AVX2): 5, default(32): 1}
    assert distinct(workloads) == {default(): 7, default(32): 1}


def test_a_search_that_was_cut_short_does_not_keep_its_winner() -> None:
    """The finals of the first search must not hide what the second one finds."""
    kernels = candidates(pointwise(), AVX2)
    database = Database()

    def cut(kernel: TemplateKernel) -> float:
        measured.append(kernel)
        return 1e-6 * (1 + kernels.index(kernel) / 100)

    measured: list[TemplateKernel] = []
    pool = Untouched()
    tuner = Tuner(X86, Scripted(pool, cut), database, pool)  # type: ignore[arg-type]
    task = tuner._task(default(), 1)
    tuner._step([task])
    tuner._settle([task])
    assert task.waiting
    assert not task.settled
    best = kernels[-1]
    tasks, _ = tune(database, lambda k: 1e-7 if k == best else 1e-6, {default(): 1})
    assert tasks[0].best == best
    assert database.best(Setting.of(X86), pointwise(), "scripted") == (best, "scripted")
