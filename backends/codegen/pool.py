"""A pool of compiling child processes with a time limit per kernel.

The limit is processor time where the system tells it: LLVM that hangs burns it, a busy machine
does not.  Whoever waits for something else is given ``PATIENCE`` times as long by the clock.
"""

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ...ir.errors import BackendError
from .program import Kernel
from .worker import receive, send

PATIENCE = 10

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
import tvm
from qc.backends.codegen.worker import serve
serve()
"""


@dataclass
class _Worker:
    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    name: str = ""
    started: float = 0.0
    given: float = 0.0
    pending: bool = field(default=False)


class CompilerPool:
    """``workers`` child processes that compile kernels; use it as a context."""

    def __init__(self, workers: int = 2, seconds: float = 120.0) -> None:
        self.seconds = seconds
        self._count = workers
        self._workers: list[_Worker] = []

    def __enter__(self) -> "CompilerPool":
        """Start the processes."""
        self._workers = [_spawn() for _ in range(self._count)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill them."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
            for stream in (worker.process.stdin, worker.process.stdout, worker.errors):
                if stream is not None:
                    stream.close()

    def compile(
        self,
        kernels: Mapping[str, Kernel],
        target: dict[str, object],
        where: Callable[[str], str],
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, tuple[bytes, int]]:
        """Object file and extent by symbol; ``where`` names the IR node in errors."""
        waiting = list(kernels.items())[::-1]
        done: dict[str, tuple[bytes, int]] = {}
        while len(done) < len(kernels):
            for worker in self._workers:
                if not worker.pending and waiting:
                    self._give(worker, *waiting.pop(), target)
            for worker in self._ready():
                done[worker.name] = self._take(worker, where)
                if progress is not None:
                    progress(len(done), len(kernels))
        return {symbol: done[symbol] for symbol in kernels}

    def _give(self, worker: _Worker, name: str, kernel: Kernel, target: dict[str, object]) -> None:
        worker.name, worker.started, worker.pending = name, _spent(worker), True
        worker.given = time.monotonic()
        try:
            assert worker.process.stdin is not None
            send(worker.process.stdin, (kernel, name, target))  # type: ignore[arg-type]
        except BrokenPipeError:
            pass  # the end of its output tells

    def _ready(self) -> list[_Worker]:
        """Workers with an answer, an end, or a job that takes too long."""
        busy = [w for w in self._workers if w.pending]
        streams = {w.process.stdout: w for w in busy if w.process.stdout is not None}
        found, _, _ = select.select(list(streams), [], [], 1.0)
        late = [w for w in busy if self._late(w)]
        return [streams[s] for s in found] + [w for w in late if w.process.stdout not in found]

    def _late(self, worker: _Worker) -> bool:
        waited = time.monotonic() - worker.given
        return _spent(worker) - worker.started > self.seconds or waited > PATIENCE * self.seconds

    def _take(self, worker: _Worker, where: Callable[[str], str]) -> tuple[bytes, int]:
        worker.pending = False
        text = f"kernel {worker.name} of node {where(worker.name)!r}"
        if self._late(worker):
            raise BackendError(f"{text}: LLVM took more than {self.seconds:.0f} s")
        try:
            answer: Any = receive(worker.process.stdout)  # type: ignore[arg-type]
        except EOFError:
            code = worker.process.wait()
            why = f"exit code {code}{_last_words(worker)}"
            raise BackendError(f"{text}: the compiler died ({why})") from None
        if isinstance(answer, str):
            raise BackendError(f"{text}: {answer}")
        return (answer[0], answer[1])


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
    command = [sys.executable, "-c", _BOOT, str(_ROOT)]
    pipe, errors = subprocess.PIPE, tempfile.TemporaryFile()  # noqa: SIM115
    whole = {k: v for k, v in os.environ.items() if k != "TVM_USE_RUNTIME_LIB"}
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, env=whole)
    return _Worker(process, errors)
