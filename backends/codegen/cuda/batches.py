"""Calls of one kernel for the samples of a batch, which differ by equal steps, as one launch.

Templates compute one image; on a device the samples are the second axis of the grid.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..buffer import FIXED, Buffer
from ..program import Call, Emitted, Kernel, Program

MOST = 65535
"""Of the second axis of a grid."""


@dataclass(frozen=True)
class Batch:
    """``kernel`` for ``samples`` whose addresses are ``steps`` bytes apart, by pointer."""

    kernel: Kernel
    samples: int
    steps: tuple[int, ...]

    @property
    def label(self) -> str:
        """The kernel's own."""
        return self.kernel.label

    def emit(self, name: str) -> Emitted:
        """The kernel for one sample."""
        return self.kernel.emit(name)


def batched(program: Program) -> Program:
    """The same program with such calls joined."""
    kernels = {call.symbol: program.kernels[call.symbol] for call in program.once}
    symbols = {kernel: symbol for symbol, kernel in kernels.items()}
    calls = []
    for group in _groups(program.calls):
        first, kernel = group[0], program.kernels[group[0].symbol]
        if len(group) > 1:
            kernel = Batch(kernel, len(group), _steps(group[0], group[1]))
        symbol = symbols.setdefault(kernel, f"qc_{len(kernels)}_{kernel.label}")
        kernels[symbol] = kernel
        calls.append(Call(symbol, first.pointers, first.node))
    return replace(program, kernels=kernels, calls=calls)


def _groups(calls: list[Call]) -> Iterator[list[Call]]:
    """Runs of calls that may be one launch."""
    group: list[Call] = []
    for call in calls:
        if group and not _continues(group, call):
            yield group
            group = []
        group.append(call)
    if group:
        yield group


def _continues(group: list[Call], call: Call) -> bool:
    """Whether ``call`` is the next sample: the same kernel, node and memory, one step further.

    No memory may be given twice: what one sample writes another one could read.
    """
    last = group[-1]
    if (call.symbol, call.node) != (last.symbol, last.node):
        return False
    pairs = list(zip(call.pointers, last.pointers, strict=True))
    same = all(a.buffer is b.buffer for a, b in pairs)
    if not same or not apart(a.buffer for a, _ in pairs) or len(group) == MOST:
        return False
    steps = _steps(last, call)
    return any(steps) and (len(group) == 1 or steps == _steps(group[0], group[1]))


def apart(buffers: Iterable[Buffer]) -> bool:
    """Whether no memory that is written to is there twice."""
    written = [id(b) for b in buffers if b.storage not in FIXED]
    return len(set(written)) == len(written)


def _steps(first: Call, second: Call) -> tuple[int, ...]:
    pairs = zip(first.pointers, second.pointers, strict=True)
    return tuple(b.offset - a.offset for a, b in pairs)
