"""The search: which kernels of which workload are measured next, until the time is over.

Every workload has its kernels in the order of their estimates. They are compiled and timed a few
at a time together with the best one so far, whose time tells how disturbed the machine is. What
takes most of the network's time and has improved of late comes first. In the end the best few of
every workload meet once more, so that luck does not decide.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Protocol

from ....targets.target import Target
from ..pool import Pool
from ..template import TemplateKernel
from .candidate import job_of, trial_of
from .measurer import Measurer, Timing
from .records import Database, Record, Setting, describe, fastest
from .searchers import Searcher, Templates
from .trial import Trial

BATCH = 8
"""Kernels that are timed together."""

FINALISTS = 4
SEARCH = 0.85
"""Part of the time until the best of all workloads meet."""

DECAY = 0.6
"""What the hope for a workload is multiplied by after a batch without a better kernel."""

log = logging.getLogger(__name__)


class Progress(Protocol):
    """Where the search reports."""

    def start(self, what: str, total: int | None = None) -> None:
        """A new stage of ``total`` steps."""

    def advance(self, steps: int = 1) -> None:
        """Steps done."""

    def rename(self, what: str) -> None:
        """What the stage is called from now on."""


@dataclass
class Task:
    """One workload: its calls in a network, what is to be tried, what was found."""

    default: TemplateKernel
    calls: int
    waiting: list[TemplateKernel] = field(default_factory=list)
    results: dict[TemplateKernel, Record] = field(default_factory=dict)
    hope: float = 1.0
    exhausted: bool = False

    @property
    def seconds(self) -> dict[TemplateKernel, float]:
        """The times of what could be measured."""
        return {k: r.seconds for k, r in self.results.items() if r.seconds is not None}

    @property
    def best(self) -> TemplateKernel:
        """The fastest so far."""
        return fastest(self.results) or self.default

    @property
    def settled(self) -> bool:
        """Whether the best of all met each other."""
        return not self.waiting and any(r.final for r in self.results.values())

    def finalists(self) -> list[TemplateKernel]:
        """The best few, and the default."""
        seconds = self.seconds
        ranked = sorted(seconds, key=lambda k: seconds[k])[:FINALISTS]
        extra = self.default in seconds and self.default not in ranked
        return [*ranked, self.default] if extra else ranked

    def expect(self, kernels: list[TemplateKernel]) -> None:
        """What is to be tried next; the finals of a search that goes on are none any more."""
        self.waiting = kernels
        if kernels:
            self.results = {k: replace(r, final=False) for k, r in self.results.items()}

    @property
    def time(self) -> float:
        """Seconds of all its calls with the best kernel; 0 while nothing is known."""
        return self.calls * self.seconds.get(self.best, 0.0)


@dataclass
class Tuner:
    """Measures workloads for ``target``; records go to ``database`` as they come."""

    target: Target
    measurer: Measurer
    database: Database
    pool: Pool
    searcher: Searcher = field(default_factory=Templates)

    def tune(
        self, workloads: Mapping[TemplateKernel, int], seconds: float, progress: Progress
    ) -> list[Task]:
        """Search for ``seconds``; ``workloads``: the default kernels and their numbers of calls.

        What the database knows is not measured again.  A part of the time is kept for the end.
        """
        deadline = monotonic() + SEARCH * seconds
        tasks = [self._task(kernel, calls) for kernel, calls in distinct(workloads).items()]
        what = f"tune {len(tasks)} workloads"
        progress.start(what, sum(self.searcher.steps(t.waiting, t.results) for t in tasks))
        while (chosen := self._next(tasks)) and monotonic() < deadline:
            self._refill(chosen)
            progress.advance(self._step([t for t in chosen if t.waiting]))
            self._settle([t for t in chosen if t.exhausted])
            progress.rename(f"{what}, {speedup(tasks):.2f} x")
        self._settle(tasks)
        return tasks

    def _task(self, kernel: TemplateKernel, calls: int) -> Task:
        setting = Setting.of(self.target)
        known = self.database.results(setting, self.measurer.name, kernel.workload)
        task = Task(kernel, calls, results=known)
        task.expect(self.searcher.first(kernel, known))
        return task

    def _refill(self, tasks: Sequence[Task]) -> None:
        """Ask for more where nothing is waiting."""
        for task in tasks:
            if not task.waiting:
                more = self.searcher.more(task.default, task.results, self.pool)
                task.expect(more)
                task.exhausted = not more

    def _next(self, tasks: Sequence[Task]) -> list[Task]:
        """The most promising workloads: unknown ones first, by their estimates."""
        going = [t for t in tasks if not t.exhausted]
        fresh = [t for t in going if not t.results]
        known = [t for t in going if t.results]
        fresh.sort(key=lambda t: -t.calls * t.default.cost)
        known.sort(key=lambda t: -t.time * t.hope)
        return (fresh + known)[: self.measurer.width]

    def _step(self, tasks: Sequence[Task]) -> int:
        """Measure the next few kernels of some workloads; their number."""
        batches, anchors = [], []
        for task in tasks:
            batch, task.waiting = task.waiting[:BATCH], task.waiting[BATCH:]
            anchors.append(task.best if task.seconds else None)
            batches.append(batch if anchors[-1] is None else [anchors[-1], *batch])
        for task, anchor, found in zip(tasks, anchors, self._measure(batches), strict=True):
            drift = 1.0
            if anchor is not None:
                now = found.pop(anchor)
                drift = task.seconds[anchor] / now if isinstance(now, float) else 1.0
            scaled = {k: r * drift if isinstance(r, float) else r for k, r in found.items()}
            self._remember(task, scaled)
            task.hope = 1.0 if task.best != anchor else task.hope * DECAY
        return sum(map(len, batches)) - sum(a is not None for a in anchors)

    def _settle(self, tasks: Sequence[Task]) -> None:
        """Measure the best few and the default of each workload again, together."""
        tasks = [t for t in tasks if not t.settled and len(t.seconds) > 1]
        finals = [t.finalists() for t in tasks]
        for task, found in zip(tasks, self._measure(finals), strict=True):
            self._remember(task, found, final=True)

    def _remember(
        self, task: Task, found: Mapping[TemplateKernel, Timing], final: bool = False
    ) -> None:
        setting, name = Setting.of(self.target), self.measurer.name
        records = {k: Record.of(setting, name, k, r, final) for k, r in found.items()}
        self.database.add(records.values())
        task.results |= records
        for kernel, result in found.items():
            if isinstance(result, str):
                log.info("%s: %s", kernel, result)

    def _measure(
        self, batches: Sequence[Sequence[TemplateKernel]]
    ) -> list[dict[TemplateKernel, Timing]]:
        """Compile all and time each batch together."""
        jobs: dict[str, tuple[int, TemplateKernel]] = {}
        for b, batch in enumerate(batches):
            jobs |= {f"qc_trial_{b}_{i}": (b, kernel) for i, kernel in enumerate(batch)}
        found: list[dict[TemplateKernel, Timing]] = [{} for _ in batches]
        groups: list[dict[str, Trial]] = [{} for _ in batches]
        compiles = {n: job_of(k, n, self.target) for n, (_, k) in jobs.items()}
        for name, result in self.pool.results(compiles):
            b, kernel = jobs[name]
            if isinstance(result, str):
                found[b][kernel] = result
            else:
                groups[b][name] = trial_of(kernel, result, self.target)
        linkable = [g for g in groups if g]
        for timed in self.measurer.measure(linkable) if linkable else ():
            for name, timing in timed.items():
                b, kernel = jobs[name]
                found[b][kernel] = timing
        return found


def distinct(workloads: Mapping[TemplateKernel, int]) -> dict[TemplateKernel, int]:
    """Workloads whose kernels differ only in numbers as one, calls added."""
    first: dict[str, TemplateKernel] = {}
    calls: dict[str, int] = {}
    for kernel, count in workloads.items():
        key = describe(kernel.workload)
        first.setdefault(key, kernel)
        calls[key] = calls.get(key, 0) + count
    return {first[key]: calls[key] for key in first}


def speedup(tasks: Sequence[Task]) -> float:
    """How many times faster all kernels are together than the defaults, as far as known."""
    known = [t for t in tasks if t.default in t.seconds]
    before = sum(t.calls * t.seconds[t.default] for t in known)
    return before / sum(t.time for t in known) if before else 1.0
