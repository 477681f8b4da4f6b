"""A pool of child processes that compile (and do what else may hang or die) within a time limit.

The limit is processor time where the system tells it: LLVM that hangs burns it, a busy machine
does not.  Whoever waits for something else is given ``patience`` times as long by the clock.

A child is a process group of its own, so that a compiler that it has started is killed with it, and
both die with the parent (``orphan``).  A group is killed before its child is waited for: later the
number may be somebody else's.

A child takes seconds to load TVM.  Those of a pool that is ``lasting`` go to the next one of this
process when they are not needed any more, and end with it.
"""

import atexit
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ...ir.errors import BackendError
from .program import Kernel
from .worker import Compile, Compiled, Job, Prepare, receive, send

PATIENCE = 10.0

_ROOT = Path(__file__).resolve().parents[2]
_BOOT = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
root = Path(sys.argv[1])
spec = spec_from_file_location("qc", root / "__init__.py", submodule_search_locations=[str(root)])
module = module_from_spec(spec)
sys.modules["qc"] = module
spec.loader.exec_module(module)
from qc.backends.codegen.orphan import end_with
end_with(int(sys.argv[2]))
sys.modules["torch"] = None  # TVM imports it where it can, which takes longer than all the rest
import tvm
from qc.backends.codegen.worker import serve
serve()
"""


@dataclass(eq=False)
class _Worker:
    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    parent: int
    name: str = ""
    started: float = 0.0
    given: float = 0.0
    pending: bool = field(default=False)


_idle: list[_Worker] = []
"""Children that lasting pools have left."""


class Pool:
    """``workers`` child processes with a limit of ``seconds`` per job; use it as a context.

    ``lasting``: for jobs that leave nothing behind, wherever they run; the processes serve later
    pools like it, with the environment as it is then.
    """

    def __init__(
        self,
        workers: int = 2,
        seconds: float = 120.0,
        patience: float = PATIENCE,
        lasting: bool = False,
    ) -> None:
        self.seconds = seconds
        self.patience = patience
        self.lasting = lasting
        self._count = workers
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Pool":
        """Start the processes, or take such as are idle."""
        self._workers = _taken(self._count) if self.lasting else []
        self._workers += [_spawn() for _ in range(self._count - len(self._workers))]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill them, or leave them to others."""
        workers, self._workers = self._workers, []
        left = [w for w in workers if self.lasting and not _ended(w)]
        _idle.extend(left)
        _end([w for w in workers if w not in left])

    def compile(
        self,
        kernels: Mapping[str, Kernel],
        target: dict[str, object],
        where: Callable[[str], str],
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Compiled]:
        """All kernels by symbol; ``where`` names the IR node in errors.

        Raises ``BackendError`` for the first that fails.
        """
        done: dict[str, Compiled] = {}
        jobs = {name: Compile(kernel, name, target) for name, kernel in kernels.items()}
        for symbol, result in self.results(jobs):
            if isinstance(result, str):
                raise BackendError(f"kernel {symbol} of node {where(symbol)!r}: {result}")
            done[symbol] = result
            if progress is not None:
                progress(len(done), len(kernels))
        return {symbol: done[symbol] for symbol in kernels}

    def results(self, jobs: Mapping[str, Job]) -> Iterator[tuple[str, Any]]:
        """Names and what became of their jobs, as they are done: a string says why one failed."""
        waiting = list(jobs.items())[::-1]
        for worker in [w for w in self._workers if _ended(w)]:
            self._replace(worker)
        try:
            while waiting or any(w.pending for w in self._workers):
                for worker in self._workers:
                    if not worker.pending and waiting:
                        self._give(worker, *waiting.pop())
                for worker in self._ready():
                    yield worker.name, self._take(worker)
        finally:  # whoever is interrupted must not find old answers next time
            for worker in [w for w in self._workers if w.pending]:
                worker.pending = False
                _kill(worker)
                _ended(worker, wait=True)

    def _give(self, worker: _Worker, name: str, job: Job) -> None:
        worker.name, worker.started, worker.pending = name, _spent(worker), True
        worker.given = time.monotonic()
        with suppress(BrokenPipeError):  # the end of its output tells
            send(worker.process.stdin, job)  # type: ignore[arg-type]

    def _ready(self) -> list[_Worker]:
        """Workers with an answer, an end, or a job that takes too long."""
        busy = [w for w in self._workers if w.pending]
        streams = {w.process.stdout: w for w in busy if w.process.stdout is not None}
        found, _, _ = select.select(list(streams), [], [], 1.0)
        late = [w for w in busy if self._late(w)]
        return [streams[s] for s in found] + [w for w in late if w.process.stdout not in found]

    def _late(self, worker: _Worker) -> bool:
        waited = time.monotonic() - worker.given
        spent = _spent(worker) - worker.started
        return spent > self.seconds or waited > self.patience * self.seconds

    def _take(self, worker: _Worker) -> Any:
        worker.pending = False
        if self._late(worker):
            self._replace(worker)
            return f"took more than {self.seconds:.0f} s"
        try:
            return receive(worker.process.stdout)  # type: ignore[arg-type]
        except EOFError:
            _ended(worker, wait=True)
            words = _last_words(worker)
            self._replace(worker)
            return f"the process died (exit code {worker.process.returncode}{words})"

    def _replace(self, worker: _Worker) -> None:
        """A new process in place of one that hangs or is dead."""
        self._workers[self._workers.index(worker)] = _spawn()
        _end([worker])


def _taken(count: int) -> list[_Worker]:
    """Up to ``count`` of the idle children."""
    found: list[_Worker] = []
    while _idle and len(found) < count:
        worker = _idle.pop()
        if worker.parent != os.getpid():  # that of a process which forked
            continue
        if _prepared(worker):
            found.append(worker)
        else:
            _end([worker])
    return found


def _prepared(worker: _Worker) -> bool:
    """Whether an idle child lives and has got the environment of now."""
    try:
        send(worker.process.stdin, Prepare(_environment()))  # type: ignore[arg-type]
        return receive(worker.process.stdout) is None  # type: ignore[arg-type]
    except (BrokenPipeError, EOFError):
        return False


@atexit.register
def _dismiss() -> None:
    _end([w for w in _idle if w.parent == os.getpid()])


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "TVM_USE_RUNTIME_LIB"}


def _spent(worker: _Worker) -> float:
    """Seconds of processor time of a worker so far, else of the clock."""
    try:
        fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.monotonic()


def _last_words(worker: _Worker) -> str:
    """The last line of a dead worker's error output."""
    worker.errors.seek(0)
    lines = worker.errors.read().decode(errors="replace").strip().splitlines()
    return f"; {lines[-1]}" if lines else ""


def _spawn() -> _Worker:
    # -P: modules that lie in the current folder are none of ours.
    command = [sys.executable, "-P", "-c", _BOOT, str(_ROOT), str(os.getpid())]
    pipe, errors = subprocess.PIPE, tempfile.TemporaryFile()  # noqa: SIM115
    environment = _environment()
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=errors, env=environment, process_group=0
    )
    return _Worker(process, errors, os.getpid())


def _ended(worker: _Worker, wait: bool = False) -> bool:
    """Whether a worker has ended, or after a ``wait`` that it has; its number stays its own."""
    options = os.WEXITED | os.WNOWAIT | (0 if wait else os.WNOHANG)
    try:
        return os.waitid(os.P_PID, worker.process.pid, options) is not None
    except ChildProcessError:  # somebody waits for all children
        return True


def _kill(worker: _Worker) -> None:
    """Kill a worker with the programs that it has started, as nvcc or a C compiler."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.process.pid, signal.SIGKILL)


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        _kill(worker)
    for worker in workers:
        worker.process.wait()
        for stream in (worker.process.stdin, worker.process.stdout, worker.errors):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
