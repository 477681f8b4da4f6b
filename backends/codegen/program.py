"""What the compiler emits: buffers, kernels and the calls that run them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from .buffer import Buffer, Storage
from .constants import Constants
from .memory import Interval, plan
from .regions import Region, held


@dataclass(frozen=True)
class Pointer:
    """An address: ``offset`` bytes into a buffer, and ``step`` more each time around a loop.

    The loop is the innermost region that the call is in.
    """

    buffer: Buffer
    offset: int = 0
    step: int = 0


@dataclass(frozen=True)
class Emitted:
    """A function before LLVM, as TIR, and its number of independent iterations.

    ``packed``: it takes TVM's packed arguments and checks them; otherwise it is plain C.
    """

    function: Any
    extent: int
    packed: bool = False


class Kernel(Protocol):
    """What a kernel is made from: hashable and picklable, compiled in another process."""

    @property
    def label(self) -> str:
        """A short word for the symbol."""
        ...

    def emit(self, name: str) -> Emitted:
        """The kernel as TIR."""
        ...


@dataclass(frozen=True)
class Call:
    """``symbol(pointers..., lo, hi)`` on behalf of the IR node ``node``."""

    symbol: str
    pointers: tuple[Pointer, ...]
    node: str


@dataclass
class Program:
    """Kernels by symbol, the calls in order, constants, and the graph's inputs and outputs.

    ``regions``: stretches of the calls that are repeated or depend on data, in the order in which
    they begin.  ``once``: calls that come before the first run, in memory that nothing else is
    given.  ``kept``: inputs and outputs that are one state, which is copied first unless both are
    the same memory.
    Where ``constants`` do not keep their bytes, the program can be costed, not run.
    """

    kernels: dict[str, Kernel] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    once: list[Call] = field(default_factory=list)
    inputs: list[Buffer] = field(default_factory=list)
    outputs: list[Buffer] = field(default_factory=list)
    constants: Constants = field(default_factory=Constants)
    kept: list[tuple[Buffer, Buffer]] = field(default_factory=list)
    arena: int = 0
    weights: int = 0
    _symbols: dict[Kernel, str] = field(default_factory=dict)

    def call(
        self, kernel: Kernel, pointers: tuple[Pointer, ...], node: str, once: bool = False
    ) -> None:
        """Append a call; equal kernels share one symbol."""
        symbol = self._symbols.get(kernel)
        if symbol is None:
            symbol = f"qc_{len(self.kernels)}_{kernel.label}"
            self._symbols[kernel] = symbol
            self.kernels[symbol] = kernel
        (self.once if once else self.calls).append(Call(symbol, pointers, node))

    @contextmanager
    def region(
        self, trips: int = 1, condition: Pointer | None = None, when: bool = True
    ) -> Iterator[None]:
        """Calls made inside are repeated, or made where ``condition`` says so: see ``Region``."""
        region = Region(len(self.calls), len(self.calls), trips, condition, when)
        self.regions.append(region)
        yield
        region.last = len(self.calls)

    def sibling(self) -> "Program":
        """An empty program of the same library: it shares kernels and constants."""
        return Program(self.kernels, constants=self.constants, _symbols=self._symbols)

    def keep(self, before: Buffer, after: Buffer) -> None:
        """Let an input and an output be one state."""
        self.kept.append((before, after))

    @property
    def symbols(self) -> set[str]:
        """The kernels that are called."""
        return {call.symbol for call in (*self.calls, *self.once)}

    def first_user(self, symbol: str) -> str:
        """The IR node that first calls ``symbol``."""
        return next(call.node for call in (*self.calls, *self.once) if call.symbol == symbol)

    def place(self) -> None:
        """Give every arena buffer its offset."""
        spans: dict[Buffer, tuple[int, int]] = {}
        for step, buffer in self._uses():
            first, last = spans.get(buffer, (step, step))
            spans[buffer] = (min(first, step), max(last, step))
        spans = {buffer: held(span, self.regions) for buffer, span in spans.items()}
        for call in self.once:
            spans |= {p.buffer: (0, len(self.calls)) for p in call.pointers}
        intervals = [Interval(b.size, *span) for b, span in spans.items()]
        result = plan(intervals)
        for buffer, offset in zip(spans, result.offsets, strict=True):
            buffer.offset = offset
        self.arena = result.peak

    def _uses(self) -> Iterator[tuple[int, Buffer]]:
        for step, call in enumerate(self.calls):
            for pointer in call.pointers:
                if pointer.buffer.storage is Storage.ARENA:
                    yield step, pointer.buffer
        for region in self.regions:
            asked = region.condition
            if asked is not None and asked.buffer.storage is Storage.ARENA:
                yield region.first, asked.buffer
