"""What the CUDA templates share: pixels in one row, and sums that several threads split."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ..conv import ConvWorkload, Runs, runs_of
from ..isa import Expr
from .device import array, i32, store, wait


@dataclass(frozen=True)
class Pixel:
    """An output pixel, and the index of the first element of ``x`` under its window."""

    row: Expr
    column: Expr
    x: Expr


def pixel_of(workload: ConvWorkload, index: Expr) -> Pixel:
    """The pixel of a number that counts along the rows."""
    x, (down, right), width = workload.x, workload.strides, workload.y.width
    row, column = i32(0), index
    if workload.y.height > 1:
        row, column = I.bind(tirx.truncdiv(index, width)), I.bind(tirx.truncmod(index, width))
    first = row * (down * x.row_stride) + column * (right * x.pixel_stride)
    return Pixel(row, column, I.bind(first))


def alignment(workload: ConvWorkload, chunk: int) -> int:
    """Bytes that all elements of ``x`` are apart which chunks of codes start at."""
    x, runs = workload.x, runs_of(workload)
    apart = [chunk, runs.row_step, runs.tap_step, x.row_stride if x.height > 1 else 0]
    return gcd(*apart, x.pixel_stride if x.width > 1 else 0, 64)


@dataclass(frozen=True)
class Split:
    """A reduction in chunks, of which each of ``parts`` threads sums its share."""

    runs: Runs
    chunk: int
    parts: int

    @property
    def chunks(self) -> int:
        """Chunks of the whole reduction."""
        return self.runs.total(self.chunk)

    @property
    def share(self) -> int:
        """Chunks of one part; the last part may have fewer."""
        return -(-self.chunks // self.parts)

    @contextmanager
    def loop(self, part: Expr) -> Iterator[tuple[Expr, Expr]]:
        """Emit the loop over a part's chunks.

        Yields (element of ``x`` relative to the pixel's first, number of the chunk).
        """
        with I.serial(0, self.share) as i:
            number = I.bind(part * self.share + i) if self.parts > 1 else i
            if self.chunks % self.parts:
                with I.If(number < self.chunks), I.Then():
                    yield I.bind(self._element(number)), number
            else:
                yield I.bind(self._element(number)), number

    def _element(self, number: Expr) -> Expr:
        runs, chunks = self.runs, self.runs.chunks(self.chunk)
        if runs.rows * runs.taps == 1:
            return number * self.chunk
        run, inner = tirx.truncdiv(number, chunks), tirx.truncmod(number, chunks)
        row, tap = tirx.truncdiv(run, runs.taps), tirx.truncmod(run, runs.taps)
        return row * runs.row_step + tap * runs.tap_step + inner * self.chunk


@contextmanager
def joined(sums: Any, size: int, me: Expr, part: Expr, parts: int, threads: int) -> Iterator[None]:
    """Emit the addition of all parts' ``sums`` (int32); what follows is done by part 0 alone.

    Thread ``me`` of a block of ``threads`` has part ``me // (threads / parts)``.
    """
    if parts == 1:
        yield
        return
    step = threads // parts
    shared = array((threads - step) * size, "int32", "shared")
    with I.If(part > 0), I.Then(), I.unroll(0, size) as i:
        store(shared, sums[i], i * (threads - step) + me - step)
    wait()
    with I.If(part.equal(0)), I.Then():
        with I.unroll(0, size) as i, I.serial(0, parts - 1) as other:
            store(sums, sums[i] + shared[i * (threads - step) + other * step + me], i)
        yield
