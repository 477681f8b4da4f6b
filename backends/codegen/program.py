"""What the compiler emits: buffers, kernels and the calls that run them."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from .memory import ALIGNMENT, SLACK, Interval, plan
from .regions import Region, held


class Storage(Enum):
    """Where a buffer lives."""

    ARENA = "arena"
    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"


@dataclass(eq=False)
class Buffer:
    """A piece of memory.

    ``offset``: bytes into the arena or the constants; for inputs and outputs their index.
    """

    name: str
    size: int
    storage: Storage = Storage.ARENA
    offset: int = 0


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
    Without ``keep_constants`` their bytes are left out: the program can be costed, not run.
    """

    keep_constants: bool = True
    kernels: dict[str, Kernel] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    once: list[Call] = field(default_factory=list)
    inputs: list[Buffer] = field(default_factory=list)
    outputs: list[Buffer] = field(default_factory=list)
    constants: bytearray = field(default_factory=bytearray)
    kept: list[tuple[Buffer, Buffer]] = field(default_factory=list)
    arena: int = 0
    weights: int = 0
    _symbols: dict[Kernel, str] = field(default_factory=dict)
    _blobs: dict[bytes, Buffer] = field(default_factory=dict)

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
        return Program(
            self.keep_constants, self.kernels, constants=self.constants,
            _symbols=self._symbols, _blobs=self._blobs,
        )  # fmt: skip

    def keep(self, before: Buffer, after: Buffer) -> None:
        """Let an input and an output be one state."""
        self.kept.append((before, after))

    def constant(self, name: str, data: bytes) -> Buffer:
        """A constant; equal bytes are stored once."""
        if not self.keep_constants:
            return Buffer(name, len(data), Storage.CONSTANT)
        key = hashlib.sha256(data).digest()
        if key not in self._blobs:
            offset = len(self.constants)
            self.constants += data
            self.constants += b"\0" * (SLACK + -(len(data) + SLACK) % ALIGNMENT)
            self._blobs[key] = Buffer(name, len(data), Storage.CONSTANT, offset)
        return self._blobs[key]

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
