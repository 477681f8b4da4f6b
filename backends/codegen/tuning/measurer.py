"""Who times kernels: this machine, in a process of their own that may die or hang."""

import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from ....ir.errors import BackendError
from ....targets.target import Target
from .candidate import link_program
from .machine import local
from .trial import Trial

MILLISECONDS = 8
"""Time that each kernel of a program is given."""

LOST = 4
"""What a program ends with that found its device unfit to work with."""

Timing = float | str
"""Seconds of one call, or why there are none."""


Run = Callable[[Sequence[int]], "Outcome"]
"""Runs the timer on some kernels."""


class Measurer(Protocol):
    """Times kernels on one machine."""

    @property
    def name(self) -> str:
        """The machine and the way: times of different names are never compared."""

    @property
    def width(self) -> int:
        """Groups that it times at once."""

    def measure(self, groups: Sequence[Mapping[str, Trial]]) -> list[dict[str, Timing]]:
        """Seconds of a call, by name, for each group; those of a group interleaved.

        A kernel that dies or hangs costs itself alone.  Raises ``BackendError`` where the machine
        itself is lost.
        """


@dataclass
class Outcome:
    """What a timer found: seconds and failures by number, and whom its own death is blamed on."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    started: int | None = None
    death: str = ""

    def timing(self, k: int) -> Timing:
        """The lower quartile: what is slower met a disturbance."""
        if k in self.seconds:
            return float(np.quantile(self.seconds[k], 0.25))
        return self.failures.get(k) or self.death or "was not timed"


def parse(lines: Sequence[str], death: str = "") -> Outcome:
    """Whole lines of the output of ``measure.c``; ``ValueError`` for others."""
    outcome = Outcome(death=death)
    for line in lines:
        first, _, second = line.partition(" ")
        if first == "!":
            number, _, why = second.partition(" ")
            outcome.failures[int(number)] = why
        else:
            outcome.seconds.setdefault(int(first), []).append(float(second) / 1e9)
    return outcome


@dataclass(frozen=True)
class Local:
    """This machine; ``hang``: seconds after which one kernel is given up.

    ``limit``: seconds for all kernels of one program, where one of them hangs later than at first.
    """

    target: Target
    hang: int = 10
    limit: float = 120.0

    @property
    def name(self) -> str:
        """This machine's processor, or its CUDA device."""
        return local(self.target)

    @property
    def width(self) -> int:
        """One: kernels that run side by side disturb each other."""
        return 1

    def measure(self, groups: Sequence[Mapping[str, Trial]]) -> list[dict[str, Timing]]:
        """Link, run, and run again without whom the program died of."""
        return [self._group(trials) for trials in groups]

    def _group(self, trials: Mapping[str, Trial]) -> dict[str, Timing]:
        with tempfile.TemporaryDirectory(prefix="qc-tune-") as scratch:
            program = link_program(trials, Path(scratch), self.target)
            found = time_all(range(len(trials)), lambda ks: self._run(program, ks))
        return {name: found[k] for k, name in enumerate(trials)}

    def _run(self, program: Path, kernels: Sequence[int]) -> Outcome:
        command = [str(program), str(MILLISECONDS), str(self.hang), *map(str, kernels)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe)
        try:
            out, said = process.communicate(timeout=self.limit)
            if process.returncode == LOST:
                raise BackendError(
                    f"kernels cannot be timed: {said.decode(errors='replace').strip()}"
                )
            death = _death(process.returncode)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
            death = f"took more than {self.limit:.0f} s"
        except BaseException:
            process.kill()
            process.wait()
            raise
        return parse(out.decode(errors="replace").split("\n")[:-1], death)


def time_all(kernels: Sequence[int], run: Run) -> dict[int, Timing]:
    """Time kernels together; whoever kills the timer is left out, and the rest run again."""
    outcome = run(kernels)
    if not outcome.death:
        return {k: outcome.timing(k) for k in kernels}
    if len(kernels) == 1:
        return {kernels[0]: outcome.death}
    if outcome.started is None:
        return {k: timing for one in kernels for k, timing in time_all([one], run).items()}
    rest = [k for k in kernels if k != outcome.started]
    return {outcome.started: outcome.death} | time_all(rest, run)


def _death(code: int) -> str:
    if code == 0:
        return ""
    return f"died of signal {-code}" if code < 0 else f"ended with status {code}"
