"""Tuning networks: where the database is, what is measured, and what is said of it."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from .ir.errors import DataError, TargetError, nearest
from .ir.graph import Graph
from .measurers import measurer_here
from .output import replacing_file
from .progress import Progress, Silent
from .reporting.report import Facts
from .targets import Target

if TYPE_CHECKING:
    from .backends.codegen.template import TemplateKernel
    from .backends.codegen.tuning.bundle import Packed
    from .backends.codegen.tuning.measurer import Measurer
    from .backends.codegen.tuning.records import Database
    from .backends.codegen.tuning.search import Task
    from .backends.codegen.tuning.searchers import Searcher
    from .job import Job

log = logging.getLogger(__name__)

TEMPLATES, METASCHEDULE = "templates", "metaschedule"
SEARCHERS = (TEMPLATES, METASCHEDULE)

COMPILE_SECONDS = 20.0
"""Processor time after which a candidate is given up (a usual one takes a tenth of a second)."""


def database_path(given: str | Path | None) -> Path:
    """The database: as given, else ``QC_DB``, else in the user's cache folder.

    Raises ``DataError`` for a folder, and for a file that may not be read.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(given or os.environ.get("QC_DB") or Path(cache) / "qc" / "tuning.jsonl")
    if path.is_dir():
        raise DataError(f"database {str(path)!r} is a folder; give a file of JSON lines")
    if path.exists() and not os.access(path, os.R_OK):
        raise DataError(f"database {str(path)!r} may not be read")
    return path


def check_writable(path: Path) -> None:
    """``DataError`` where records could not be written; nothing is made."""
    place = path
    while not place.exists():
        place = place.parent
    if (place == path or place.is_dir()) and os.access(place, os.W_OK):
        return
    raise DataError(f"database {str(path)!r} cannot be written: {str(place)!r} does not allow it")


def open_database(path: Path) -> Database:
    """The records of a file; lines that are none are counted on the log."""
    from .backends.codegen.tuning.records import Database

    database = Database.open(path)
    if database.skipped:
        log.warning(
            "database %r: %d lines are no records of this version; they are skipped and kept",
            str(path), database.skipped,
        )  # fmt: skip
    return database


def workloads_of(graph: Graph, target: Target) -> dict[TemplateKernel, int]:
    """The kernels that a network takes by estimate, and how often each is called.

    Calls for several samples that a device makes one launch of count as one.
    """
    from .backends.codegen.lower import lower
    from .backends.codegen.regions import times
    from .backends.codegen.template import TemplateKernel

    program = lower(graph, target.features, keep_constants=False)
    calls: Counter[str] = Counter()
    for call, count in zip(program.calls, times(program.regions, len(program.calls)), strict=True):
        calls[call.symbol] += count
    return {
        kernel: calls[symbol] // kernel.workload.samples
        for symbol, kernel in program.kernels.items()
        if isinstance(kernel, TemplateKernel)
    }


@dataclass(frozen=True)
class Tuned:
    """What a search found."""

    measurer: str
    seconds: float
    tasks: list[Task]

    def as_json(self, target: Target, database: Database) -> Facts:
        """Plain data."""
        from .backends.codegen.tuning.search import speedup

        return {
            "target": target.name,
            "measurer": self.measurer,
            "database": str(database.path),
            "seconds": round(self.seconds, 3),
            "speedup": speedup(self.tasks),
            "workloads": [_row(task) for task in self.tasks],
        }


@dataclass(frozen=True)
class Where:
    """Where kernels are measured: here, on ``device`` (HOST:PORT), or on the devices of a kind
    ``key`` that ``tracker`` (HOST:PORT) lends.
    """

    device: str | None = None
    tracker: str | None = None
    key: str | None = None

    def check(self, target: Target) -> None:
        """Refuse what cannot be, before the long work: ``DataError``, ``TargetError``."""
        from .backends.codegen.address import Address

        if target.arch and self != HERE:
            raise TargetError(
                f"kernels for {target.name!r} are timed on the machine with the device: run qc "
                "tune there, or take --bundle there; --device and --tracker do not serve CUDA"
            )
        if self.device and self.tracker:
            raise DataError("give --device or --tracker, not both")
        if bool(self.tracker) != bool(self.key):
            raise DataError("--tracker HOST:PORT and --key K go together")
        if address := self.device or self.tracker:
            Address.parse(address)
        else:
            measurer_here(target, required=True)

    @contextmanager
    def measurer(self, target: Target) -> Iterator[Measurer]:
        """Who measures; ``BackendError`` where a device cannot be worked with."""
        from .backends.codegen.address import Address
        from .backends.codegen.tuning.devices import devices
        from .backends.codegen.tuning.measurer import Local

        if address := self.device or self.tracker:
            with devices(target, Address.parse(address, self.key or "")) as found:
                yield found
        else:
            yield Local(target)


HERE = Where()


def check_searcher(name: str, where: Where, target: Target) -> None:
    """``DataError`` for a searcher that there is not, or not there."""
    if name not in SEARCHERS:
        raise DataError(f"unknown searcher {name!r}; {nearest(name, SEARCHERS)}")
    if name == METASCHEDULE and target.arch:
        raise DataError(f"--searcher {METASCHEDULE} makes no kernels for CUDA; leave it out")
    if name == METASCHEDULE and where != HERE:
        raise DataError(
            f"--searcher {METASCHEDULE} runs its kernels on this machine to compare them with the "
            "reference; leave out --device and --tracker"
        )


def _searcher(name: str, target: Target) -> Searcher:
    from .backends.codegen.tuning.metaschedule import MetaSchedule
    from .backends.codegen.tuning.searchers import Templates

    return MetaSchedule(target.tvm()) if name == METASCHEDULE else Templates()


def tune_graph(
    graph: Graph,
    target: Target,
    database: Database,
    measurer: Measurer,
    seconds: float,
    progress: Progress | None = None,
    searcher: str = TEMPLATES,
) -> Tuned:
    """Measure the kernels of an integer graph for ``seconds``; records go to ``database``.

    ``DataError`` for a graph that has no kernels.
    """
    from .backends.codegen.pool import Pool
    from .backends.codegen.reference import formats_of, reason
    from .backends.codegen.tuning.search import Tuner

    if formats := formats_of(graph):
        raise DataError(f"there is nothing to tune: {reason(formats)}")
    show, began = progress or Silent(), perf_counter()
    with Pool(os.cpu_count() or 1, COMPILE_SECONDS, lasting=True) as pool:
        tuner = Tuner(target, measurer, database, pool, _searcher(searcher, target))
        tasks = tuner.tune(workloads_of(graph, target), seconds, show)
    show.done()
    return Tuned(measurer.name, perf_counter() - began, tasks)


def tune_model(
    job: Job, seconds: float, target: str | Path | Target | None, progress: Progress | None
) -> Facts:
    """See ``api.tune``."""
    show = progress or Silent()
    path = database_path(job.database)
    check_writable(path)
    machine = _target(job, target)
    check_searcher(job.searcher, job.where, machine)
    job.where.check(machine)
    database = open_database(path)
    with job.where.measurer(machine) as measurer:
        graph = _graph(job, machine, database, measurer, show)
        tuned = tune_graph(graph, machine, database, measurer, seconds, show, job.searcher)
    return tuned.as_json(machine, database)


def bundle_model(
    job: Job,
    path: Path,
    seconds: float,
    target: str | Path | Target | None,
    progress: Progress | None,
) -> Facts:
    """See ``api.tune_bundle``."""
    show = progress or Silent()
    if job.searcher != TEMPLATES:
        raise DataError(f"a bundle holds what templates make: leave out --searcher {job.searcher}")
    machine = _target(job, target)
    with replacing_file(path) as draft:
        draft.touch()  # a place that cannot be written is said before the long work
        database = open_database(database_path(job.database))
        graph = _graph(job, machine, database, None, show)
        return vars(_bundle(graph, machine, draft, seconds, show))


def _bundle(graph: Graph, target: Target, path: Path, seconds: float, show: Progress) -> Packed:
    from .backends.codegen.pool import Pool
    from .backends.codegen.tuning.bundle import write_bundle

    with Pool(os.cpu_count() or 1, COMPILE_SECONDS, lasting=True) as pool:
        packed = write_bundle(path, workloads_of(graph, target), target, pool, seconds, show)
    show.done()
    return packed


def _target(job: Job, given: str | Path | Target | None) -> Target:
    """As given, else the artifact's, else the job's; one that code can be made for here."""
    from .backends.codegen.link import check_linkers
    from .targets import load

    folder = _artifact(job)
    machine = load(given or (job.target if folder is None else _target_of(folder)))
    machine.check_available()
    check_linkers(machine)
    return machine


def _artifact(job: Job) -> Path | None:
    """The folder, if the model is an artifact."""
    if isinstance(job.model, str | Path) and Path(job.model).is_dir():
        return Path(job.model)
    return None


def _target_of(folder: Path) -> str:
    from .backends.codegen.artifact import read_manifest

    return str(read_manifest(folder)["target"]["name"])


def _graph(
    job: Job, target: Target, database: Database, measurer: Measurer | None, show: Progress
) -> Graph:
    """The integer graph: of the artifact, else after all passes."""
    if (folder := _artifact(job)) is None:
        from .compiler import prepare
        from .costs import cost_on

        with cost_on(target, database, measurer) as cost:
            return prepare(job, target, cost, show).stages.folded
    from .backends.codegen.artifact import read_manifest
    from .ir.text import load

    read_manifest(folder)
    return load(folder)


def _row(task: Task) -> Facts:
    w, best = task.default.workload, task.best
    failed = sum(1 for r in task.results.values() if r.error)
    return {
        "op": "depthwise" if type(w).__name__ == "DepthwiseWorkload" else "conv",
        "input": [w.x.height, w.x.width, w.x.channels],
        "output": [w.y.height, w.y.width, w.y.channels],
        "kernel": list(w.kernel),
        "strides": list(w.strides),
        "calls": task.calls,
        "default_us": _micros(task.seconds.get(task.default)),
        "best_us": _micros(task.seconds.get(best)),
        "measured": len(task.results),
        "failed": failed,
        "left": len(task.waiting),
        "template": best.name,
        "knobs": _knobs(best),
    }


def _knobs(kernel: TemplateKernel) -> Facts:
    """The knobs as numbers: of a schedule, which is long, how many steps it has."""
    steps = getattr(kernel.knobs, "steps", None)
    return dict(vars(kernel.knobs)) if steps is None else {"steps": steps}


def _micros(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e6, 3)
