"""Progress of long work: bars on a terminal, plain lines elsewhere, nothing in the library."""

from __future__ import annotations

import sys
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class Progress(Protocol):
    """What long work reports to."""

    def start(self, what: str, total: int | None = None) -> None:
        """A new stage of ``total`` steps (None: unknown)."""

    def advance(self, steps: int = 1) -> None:
        """Steps done."""

    def rename(self, what: str) -> None:
        """What the stage is called from now on."""

    def done(self) -> None:
        """The stage is over."""


class Silent:
    """Says nothing."""

    def start(self, what: str, total: int | None = None) -> None:
        """Ignored."""

    def advance(self, steps: int = 1) -> None:
        """Ignored."""

    def rename(self, what: str) -> None:
        """Ignored."""

    def done(self) -> None:
        """Ignored."""


class Lines:
    """A line per stage, and one every ``every`` seconds within it."""

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self._stream = stream or sys.stderr
        self._every = every
        self._what = ""
        self._total: int | None = None
        self._steps = 0
        self._began = self._said = 0.0

    def start(self, what: str, total: int | None = None) -> None:
        """Say what begins."""
        self._what, self._total, self._steps = what, total, 0
        self._began = self._said = monotonic()
        self._say("...")

    def advance(self, steps: int = 1) -> None:
        """Count, and say so now and then."""
        self._steps += steps
        if monotonic() - self._said >= self._every:
            self._said = monotonic()
            self._say(f": {self._steps}/{self._total}" if self._total else f": {self._steps}")

    def rename(self, what: str) -> None:
        """The next line says it."""
        self._what = what

    def done(self) -> None:
        """Say how long it took, if it took long."""
        seconds = monotonic() - self._began
        if self._what and seconds >= self._every:
            self._say(f": done in {seconds:.0f} s")
        self._what = ""

    def _say(self, text: str) -> None:
        print(f"qc: {self._what}{text}", file=self._stream, flush=True)


class Terminal:
    """A bar per stage, by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._bars: Bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None

    def start(self, what: str, total: int | None = None) -> None:
        """Show a bar."""
        self.done()
        self._bars.start()
        self._task = self._bars.add_task(what, total=total)

    def advance(self, steps: int = 1) -> None:
        """Move it."""
        if self._task is not None:
            self._bars.advance(self._task, steps)

    def rename(self, what: str) -> None:
        """Change its text."""
        if self._task is not None:
            self._bars.update(self._task, description=what)

    def done(self) -> None:
        """Take it away."""
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        self._bars.stop()


class Shown:
    """The progress that fits standard error, as a context manager that leaves nothing on screen."""

    def __enter__(self) -> Progress:
        self._progress: Progress = Terminal() if sys.stderr.isatty() else Lines()
        return self._progress

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.done()
