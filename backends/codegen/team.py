"""Threads of a block that share the elements of one row: every thread takes each n-th element.

What they find is joined in shared memory, in an order that is fixed at compile time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod

from tvm.script.ir_builder import tirx as I

from .kernels.cuda.device import TEAM, array, store, wait
from .loops import Expr, index_of, unravel

THREADS = 128


@contextmanager
def team() -> Iterator[Expr]:
    """Let ``THREADS`` threads work on each iteration; yields the number of the thread."""
    I.func_attr({TEAM: THREADS})
    with I.launch_thread("threadIdx.x", THREADS) as me:
        yield me


@contextmanager
def share(me: Expr, shape: Sequence[int]) -> Iterator[list[Expr]]:
    """Emit this thread's part of the points of ``shape``; yields the coordinates."""
    size = prod(shape)
    with I.serial(0, -(-size // THREADS)) as i:
        point = I.bind(i * THREADS + me)
        if size % THREADS:
            with I.If(point < size), I.Then():
                yield unravel(point, shape)
        else:
            yield unravel(point, shape)


def fold(
    me: Expr,
    shape: Sequence[int],
    strides: Sequence[int],
    start: Expr,
    merge: Callable[[Expr, Expr], Expr],
    step: Callable[[Expr, Expr], Expr],
) -> Expr:
    """Emit a reduction over ``shape``; the value, known to all threads.

    ``step(acc, index)`` is the new accumulator for the element at ``index``.
    """
    dtype = start.ty.dtype
    acc, parts = array(1, dtype), array(THREADS, dtype, "shared")
    wait()  # for what other threads stored, and for who still reads the last result
    store(acc, start, 0)
    with share(me, shape) as at:
        store(acc, step(acc[0], index_of(at, strides)), 0)
    store(parts, acc[0], me)
    wait()
    half = THREADS // 2
    while half:
        with I.If(me < half), I.Then():
            store(parts, merge(parts[me], parts[me + half]), me)
        wait()
        half //= 2
    return I.bind(parts[0])
