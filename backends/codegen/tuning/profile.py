"""How long each kernel of a whole program takes: measured, or estimated from what it touches."""

from collections.abc import Iterable, Mapping
from itertools import zip_longest

import numpy as np

from ..buffer import Storage
from ..pool import Pool
from ..program import Kernel, Program
from ..regions import times
from ..template import TemplateKernel
from ..worker import Compile
from .measurer import Measurer, Timing
from .trial import MOST, Operand, Trial, make_trial, operands_of

GROUP = 16
"""Kernels of one timing program."""

ROUNDS = 5
"""Timings that a comparison of two programs takes."""

HERTZ = 3e9
"""What turns estimated cycles into seconds."""

_BYTES_A_CYCLE = 8.0
_SLOW = {"dynamicquantize": 4.0}
_CALL = 60.0


def estimate(program: Program) -> dict[str, float]:
    """Seconds of one call by symbol: templates by their own estimates, others by their bytes."""
    found: dict[str, float] = {}
    for symbol in dict.fromkeys(call.symbol for call in program.calls):
        kernel = program.kernels[symbol]  # which may hold another program's, too
        if isinstance(kernel, TemplateKernel):
            touched, cycles = sum(o.bytes for o in operands_of(kernel)), kernel.cost
        else:
            touched, cycles = sum(o.bytes for o in _operands(program, symbol)), 0.0
            cycles = touched / _SLOW.get(kernel.label, _BYTES_A_CYCLE)
        found[symbol] = (max(cycles, touched / _BYTES_A_CYCLE) + _CALL) / HERTZ
    return found


class Profiler:
    """Measures kernels; each is compiled once."""

    def __init__(self, target: dict[str, object], l2: int, measurer: Measurer, pool: Pool) -> None:
        self._target, self._l2, self._measurer, self._pool = target, l2, measurer, pool
        self._trials: dict[Kernel, tuple[str, Trial]] = {}
        self._known: dict[Kernel, Timing] = {}

    def measure(self, program: Program) -> dict[str, float]:
        """Seconds of one call by symbol, timed once; what cannot be measured is estimated."""
        self._compile(program)
        self._known |= self._timed(k for k in program.kernels.values() if k not in self._known)
        return _seconds(program, self._known)

    def ratio(self, program: Program, other: Program) -> float:
        """What ``program`` takes of the time of ``other``: the median of ``ROUNDS``.

        In a round the kernels of both are timed side by side, each once: when the machine is slow
        for a while, it is so for both.
        """
        for one in (program, other):
            self.measure(one)
        pairs = zip_longest(program.kernels.values(), other.kernels.values())
        kernels = [k for pair in pairs for k in pair if k in self._trials]
        found = []
        for _ in range(ROUNDS):
            timed = self._known | self._timed(kernels)
            part, whole = (total(p, _seconds(p, timed)) for p in (program, other))
            found.append(part / whole)
        return float(np.median(found))

    def _compile(self, program: Program) -> None:
        wanted = {s: k for s, k in program.kernels.items() if k not in self._known}
        for symbol in [s for s in wanted if len(_operands(program, s)) > MOST]:
            self._known[wanted.pop(symbol)] = f"takes more than {MOST} operands"
        first = len(self._trials)
        names = {f"qc_trial_{first + i}": symbol for i, symbol in enumerate(wanted)}
        jobs = {n: Compile(wanted[s], n, self._target) for n, s in names.items()}
        for name, result in self._pool.results(jobs):
            symbol = names[name]
            if isinstance(result, str):
                self._known[wanted[symbol]] = result
            else:
                self._trials[wanted[symbol]] = name, self._trial(program, symbol, result)

    def _timed(self, kernels: Iterable[Kernel]) -> dict[Kernel, Timing]:
        """New timings, neighbours interleaved."""
        order = list(dict.fromkeys(kernels))
        parts = [order[i : i + GROUP] for i in range(0, len(order), GROUP)]
        groups = [dict(self._trials[k] for k in part) for part in parts]
        names = {self._trials[k][0]: k for k in order}
        found: dict[Kernel, Timing] = {}
        for start in range(0, len(groups), self._measurer.width):
            for timed in self._measurer.measure(groups[start : start + self._measurer.width]):
                found |= {names[n]: timing for n, timing in timed.items()}
        return found

    def _trial(self, program: Program, symbol: str, compiled: tuple[bytes, int]) -> Trial:
        kernel = program.kernels[symbol]
        if isinstance(kernel, TemplateKernel):
            return make_trial(kernel, compiled, self._l2)
        return Trial(*compiled, _operands(program, symbol))


def _seconds(program: Program, known: Mapping[Kernel, Timing]) -> dict[str, float]:
    """Seconds of one call by symbol; estimated where there is no time."""
    rough = estimate(program)
    found = {s: known[k] for s, k in program.kernels.items()}
    return {s: t if isinstance(t, float) else rough[s] for s, t in found.items()}


def total(program: Program, seconds: Mapping[str, float]) -> float:
    """Seconds of all calls of a program."""
    return sum(by_node(program, seconds).values())


def by_node(program: Program, seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of all calls on behalf of an IR node, by its name."""
    found: dict[str, float] = {}
    counts = times(program.regions, len(program.calls))
    for call, count in zip(program.calls, counts, strict=True):
        found[call.node] = found.get(call.node, 0.0) + count * seconds[call.symbol]
    return found


def _operands(program: Program, symbol: str) -> tuple[Operand, ...]:
    """Zeros, which are good indices and codes and numbers, as large as the first call's memory."""
    call = next(c for c in program.calls if c.symbol == symbol)
    return tuple(
        Operand(max(p.buffer.size - (p.offset if p.buffer.storage is not Storage.ARENA else 0), 64),
                None)
        for p in call.pointers
    )  # fmt: skip
