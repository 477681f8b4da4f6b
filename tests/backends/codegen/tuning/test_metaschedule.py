"""MetaSchedule as a searcher: rounds, limits, one ranking with the templates, replay."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from workloads import SETTING, pointwise

from qc.backends.codegen.kernels import SCHEDULED, ConvWorkload, FloatEpilogue, View
from qc.backends.codegen.pool import Pool
from qc.backends.codegen.template import TemplateKernel, by_estimate, scheduled
from qc.backends.codegen.tuning.checked import Checked
from qc.backends.codegen.tuning.choices import Choices
from qc.backends.codegen.tuning.measurer import Timing
from qc.backends.codegen.tuning.metaschedule import ATTEMPTS, LEARN, MetaSchedule, Propose
from qc.backends.codegen.tuning.records import Database, Record, describe, fastest
from qc.backends.codegen.tuning.search import Task, Tuner
from qc.backends.codegen.tuning.trial import Trial
from qc.progress import Silent
from qc.targets import load

X86 = load("x86")
AVX2 = frozenset(SETTING.features)
NAIVE = "[[],[]]"


def trace(number: int) -> str:
    """A trace that is no other's: it fits nothing, and nobody compiles it here."""
    return f'[[["Step{number}",[],[],[]]],[]]'


@dataclass
class Search:
    """A pool whose search answers from ``rounds``, and which hands kernels through."""

    rounds: Iterator[object]
    asked: list[Propose] = field(default_factory=list)
    compiled: list[object] = field(default_factory=list)

    def results(self, jobs: Mapping[str, object]) -> Iterator[tuple[str, object]]:
        for name, job in jobs.items():
            if isinstance(job, Propose):
                self.asked.append(job)
                yield name, next(self.rounds)
            else:
                self.compiled.append(job)
                yield name, (b"%d" % (len(self.compiled) - 1), 1)


@dataclass
class Scripted:
    """A measurer that knows how fast every kernel is."""

    pool: Search
    seconds: Callable[[TemplateKernel], Timing]
    name: str = "scripted"
    width: int = 1

    def measure(self, groups: Sequence[Mapping[str, Trial]]) -> list[dict[str, Timing]]:
        kernels = [
            {n: self.pool.compiled[int(t.object)].kernel for n, t in g.items()}  # type: ignore[attr-defined]
            for g in groups
        ]
        return [{n: self.seconds(k) for n, k in g.items()} for g in kernels]


def endless(size: int = 4) -> Iterator[object]:
    """Rounds of new traces."""
    number = 0
    while True:
        yield [trace(number + i) for i in range(size)]
        number += size


def tune(
    database: Database,
    rounds: Iterator[object],
    seconds: Callable[[TemplateKernel], Timing],
    trials: int = 12,
    workload: ConvWorkload | None = None,
) -> tuple[Task, Search]:
    """The task of one workload after a search by schedules."""
    pool = Search(rounds)
    searcher = MetaSchedule(X86.tvm(), trials)
    tuner = Tuner(X86, Scripted(pool, seconds), database, pool, searcher)  # type: ignore[arg-type]
    kernel = by_estimate(workload or pointwise(), AVX2)
    return tuner.tune({kernel: 1}, 60.0, Silent())[0], pool


def number_of(kernel: TemplateKernel) -> int:
    return int(kernel.knobs.trace.split("Step")[1].split('"')[0])


def timed(best: int, seconds: float) -> Callable[[TemplateKernel], Timing]:
    """The schedule ``best`` takes ``seconds``, other schedules 3 us, templates 2 us."""

    def of(kernel: TemplateKernel) -> Timing:
        if kernel.name != SCHEDULED:
            return 2e-6
        return seconds if number_of(kernel) == best else 3e-6

    return of


@pytest.mark.parametrize("seconds", [1e-6, 2.5e-6])
def test_schedules_and_templates_are_in_one_ranking(seconds: float) -> None:
    database = Database()
    task, _ = tune(database, endless(), timed(7, seconds))
    best = fastest(database.results(SETTING, "scripted", pointwise()))
    assert best == task.best
    if seconds < 2e-6:
        assert best == scheduled(pointwise(), AVX2, trace(7))
    else:
        assert best == by_estimate(pointwise(), AVX2)
    finals = [k for k, r in task.results.items() if r.final]
    assert by_estimate(pointwise(), AVX2) in finals, "both met at the end"
    assert any(k.name == SCHEDULED for k in finals)


def test_rounds_go_on_from_what_was_measured_until_the_trials_are_used() -> None:
    task, pool = tune(Database(), endless(), timed(2, 1e-6), trials=10)
    assert len(task.results) == 1 + 12, "rounds of four, the last one whole"
    assert [len(job.tried) for job in pool.asked] == [0, 4, 8]
    assert [job.count for job in pool.asked] == [10, 6, 2]
    assert pool.asked[1].known[0] == (trace(2), 1e-6), "the best first"
    assert len({job.seed for job in pool.asked}) == 3


def test_what_a_search_wrote_is_checked_before_it_is_timed() -> None:
    _, pool = tune(Database(), endless(), timed(2, 1e-6), trials=4)
    kinds = {job.kernel.name: type(job) for job in pool.compiled}  # type: ignore[attr-defined]
    assert kinds.pop(SCHEDULED) is Checked
    assert len(kinds) == 1
    assert Checked not in kinds.values()


def test_a_search_that_dies_costs_its_round_not_the_run() -> None:
    def dying() -> Iterator[object]:
        yield "the process died (exit code -11)"
        yield from endless()

    task, pool = tune(Database(), dying(), timed(3, 1e-6), trials=4)
    assert task.best == scheduled(pointwise(), AVX2, trace(3))
    assert len(pool.asked) == 2
    assert pool.asked[0].seed != pool.asked[1].seed


@pytest.mark.parametrize("answer", ["took more than 20 s", []])
def test_a_search_that_gives_nothing_is_left(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    def nothing() -> Iterator[object]:
        while True:
            yield answer

    task, pool = tune(Database(), nothing(), timed(0, 1.0))
    assert task.best == by_estimate(pointwise(), AVX2)
    assert task.exhausted
    assert len(pool.asked) == ATTEMPTS
    assert str(answer or "found no new schedule") in caplog.text


def test_schedules_that_fail_are_remembered_and_not_asked_for_again() -> None:
    database = Database()
    task, pool = tune(
        database, endless(), lambda k: 2e-6 if k.name != SCHEDULED else "died of signal 11", 4
    )
    assert task.best == by_estimate(pointwise(), AVX2)
    assert sum(1 for r in task.results.values() if r.error == "died of signal 11") == 4
    _, pool = tune(database, endless(), timed(9, 1e-6), 8)
    assert pool.asked[0].tried == {trace(i) for i in range(4)}
    assert pool.asked[0].known == ()
    assert pool.asked[0].count == 4


def test_a_second_search_does_nothing_again() -> None:
    database = Database()
    tune(database, endless(), timed(2, 1e-6))
    task, pool = tune(database, endless(), timed(2, 1e-6))
    assert pool.asked == pool.compiled == []
    assert task.best == scheduled(pointwise(), AVX2, trace(2))


def test_layers_in_float_have_no_schedules() -> None:
    real = View.dense(7, 8, 64, "float32")
    workload = ConvWorkload(real, real, (1, 1), (1, 1), (1, 1), FloatEpilogue())
    task, pool = tune(Database(), endless(), timed(0, 1e-9), workload=workload)
    assert pool.asked == []
    assert list(task.results) == [by_estimate(workload, AVX2)]


def test_the_trace_is_json_in_the_database_and_replays_without_a_search(tmp_path: Path) -> None:
    path = tmp_path / "db.jsonl"
    kernel = scheduled(pointwise(), AVX2, NAIVE)
    Database.open(path).add([Record.of(SETTING, "here", kernel, 1e-6, final=True)])
    assert json.loads(path.read_text())["knobs"] == {"trace": [[], []]}
    database = Database.open(path)
    assert database.skipped == 0
    choices = Choices(X86, database, "here")
    assert choices(pointwise(), AVX2) == kernel
    assert choices.asked == {describe(pointwise()): "here"}


def test_a_trace_that_fits_no_more_leaves_the_workload_to_the_templates(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = Database()
    kernel = scheduled(pointwise(), AVX2, trace(0))
    database.add([Record.of(SETTING, "here", kernel, 1e-6)])
    choices = Choices(X86, database, "here")
    assert choices(pointwise(), AVX2) == by_estimate(pointwise(), AVX2)
    assert not choices.judges
    assert "does not fit" in caplog.text


def test_records_without_a_trace_do_not_count() -> None:
    database = Database()
    good = Record.of(SETTING, "here", scheduled(pointwise(), AVX2, NAIVE), 1e-6)
    database.add([replace(good, knobs=(("pixels", 3),)), replace(good, knobs=(("trace", 3),))])
    assert database.best(SETTING, pointwise()) == (None, "")


def test_tvm_proposes_schedules_that_are_new_and_fit() -> None:
    """In a child process; the same seed gives the same schedules, by chance and as learned."""
    job = Propose(pointwise(), AVX2, tuple(X86.tvm().items()), (), frozenset(), LEARN, seed=5)
    with Pool(1, 120) as pool:
        found = dict(pool.results({"first": job}))["first"]
        assert isinstance(found, list), found
        assert len(found) == len(set(found)) == LEARN
        assert all(scheduled(pointwise(), AVX2, t).fits for t in found)
        known = tuple((t, 1e-6 * (1 + i)) for i, t in enumerate(found))
        later = replace(job, known=known, tried=frozenset(found))
        again = dict(pool.results({"same": job, "later": later, "twice": later}))
    assert again["same"] == found
    assert isinstance(again["later"], list)
    assert again["later"]
    assert again["later"] == again["twice"]
    assert not set(found) & set(again["later"])
