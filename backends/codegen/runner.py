"""The graph runner: a C function that calls all kernels, and packed functions around it.

``qc_run(inputs..., outputs..., workspace)`` takes plain pointers and checks nothing.
``main_parallel(inputs..., outputs..., workspace, threads)`` takes tensors, checks them as TVM does,
and wakes TVM's thread pool once.  The independent iterations of a kernel are cut into as many parts
as there are threads, which wait for each other where one needs what another wrote; what is too
short for that the first does alone.  For no threads it calls ``qc_run``.
``main(inputs..., outputs..., workspace)`` calls it for no threads: the checks of many ports take
longer to compile than all kernels, so they are there once (and their errors name the one function).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as I

from .buffer import FIXED, Storage
from .program import Call, Pointer, Program
from .regions import Tree, nested
from .shares import Shares

RUN = "qc_run"
MAIN = "main"
MAIN_PARALLEL = "main_parallel"


@dataclass(frozen=True)
class Port:
    """An input or output of the whole graph."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Runner:
    """Emits the functions for a placed program whose kernels' extents are known.

    ``shares``: what threads do each; without it the caller does all.
    """

    def __init__(
        self,
        program: Program,
        ports: Sequence[Port],
        extents: Mapping[str, int],
        shares: Shares | None = None,
    ) -> None:
        self.program = program
        self.ports = ports
        self.extents = extents
        self.shares = shares

    def run(self, parallel: bool, name: str = "") -> Any:
        """The calls of all kernels: plain for one thread, or packed with the number of threads.

        ``name``: of the function, if not the usual one.
        """
        name = name or (MAIN_PARALLEL if parallel else RUN)
        with _function(name) as builder:
            buffers = self._declare()
            if parallel:
                threads = I.arg("threads", tirx.Var("threads", "int32"))
                self._shared(buffers, threads, name.replace(MAIN_PARALLEL, RUN))
            else:
                self._body(buffers)
        return builder.get()

    def main(self) -> Any:
        """The packed function for one thread."""
        with _function(MAIN) as builder:
            names = [*(f"p{i}" for i in range(len(self.ports))), "workspace"]
            handles = [I.arg(name, tirx.Var(name, "handle")) for name in names]
            I.evaluate(tirx.call_cpacked(f"__tvm_ffi_{MAIN_PARALLEL}", *handles, _i32(0)))
        return builder.get()

    def _shared(self, buffers: list[Any], threads: Any, alone: str) -> None:
        """What threads do together, or a call of ``alone``, which does it in the caller's."""
        call = I.call_extern("int32", alone, *map(_address, buffers))
        if not self.shares:
            I.evaluate(call)
            return
        with I.If(threads < _i32(1)):
            with I.Then():
                I.evaluate(call)
            with I.Else():
                self._body(buffers, threads, self.shares)

    def _body(self, buffers: list[Any], threads: Any = None, shares: Shares | None = None) -> None:
        self._keep(buffers)
        held = self.program.constants
        constants = _memory("qc_constants", len(held.data))
        unpacked = _memory("qc_unpacked", held.room) if held.packed else constants
        tree = nested(self.program.regions, len(self.program.calls))
        frame = _Frame(buffers, constants, unpacked, threads, shares)
        with _pragma("launch_point") if shares else nullcontext():
            self._stretch(tree, frame)

    def _declare(self) -> list[Any]:
        ports = [I.arg(f"p{i}", I.buffer(p.shape, p.dtype)) for i, p in enumerate(self.ports)]
        workspace = I.arg("workspace", I.buffer((max(self.program.arena, 64),), "uint8"))
        return [*ports, workspace]

    def _keep(self, buffers: list[Any]) -> None:
        for before, after in self.program.kept:
            here, there = buffers[before.offset], buffers[len(self.program.inputs) + after.offset]
            size = tirx.const(before.size, "int64")
            I.evaluate(I.call_extern("int32", "qc_keep", _address(there), _address(here), size))

    def _stretch(self, tree: Tree, frame: "_Frame") -> None:
        """The calls of a region, with the regions inside of it in their places."""
        at = tree.region.first
        for inner in tree.inner:
            self._calls(at, inner.region.first, frame)
            self._region(inner, frame)
            at = inner.region.last
        self._calls(at, tree.region.last, frame)

    def _region(self, tree: Tree, frame: "_Frame") -> None:
        region = tree.region
        if region.trips > 1:
            with I.serial(0, region.trips) as trip:
                self._guarded(tree, replace(frame, trip=trip))
        elif region.trips == 1:
            self._guarded(tree, replace(frame, trip=None))

    def _guarded(self, tree: Tree, frame: "_Frame") -> None:
        condition = tree.region.condition
        if condition is None:
            self._stretch(tree, frame)
            return
        address = self._pointer(condition, frame)
        flag = I.decl_buffer((1,), "uint8", data=address)
        if frame.shares:  # all threads have looked before one of them may write there again
            seen = I.alloc_buffer((1,), "uint8", scope="local")
            with _pragma("barrier_when_finish"):
                I.buffer_store(seen, flag[0], [0])
            flag = seen
        holds = tirx.Not(flag[0].equal(tirx.const(0, "uint8")))
        with I.If(holds if tree.region.when else tirx.Not(holds)), I.Then():
            self._stretch(tree, frame)

    def _calls(self, first: int, last: int, frame: "_Frame") -> None:
        for i in range(first, last):
            call, shares = self.program.calls[i], frame.shares
            if shares is None:
                self._call(call, frame, _i32(0), _i32(1))
                continue
            with (
                _pragma("barrier_when_finish") if shares.wait[i] else nullcontext(),
                I.parallel(0, frame.threads) as part,
            ):
                if shares.split[i]:
                    self._call(call, frame, part, frame.threads)
                else:
                    with I.If(part.equal(_i32(0))), I.Then():
                        self._call(call, frame, _i32(0), _i32(1))

    def _call(self, call: Call, frame: "_Frame", part: Any, parts: Any) -> None:
        """One of ``parts`` parts of a call."""
        pointers = [self._pointer(p, frame) for p in call.pointers]
        extent = self.extents[call.symbol]
        lo, hi = (tirx.truncdiv(i * extent, parts) for i in (part, part + 1))
        I.evaluate(I.call_extern("int32", call.symbol, *pointers, lo, hi))

    def _pointer(self, pointer: Pointer, frame: "_Frame") -> Any:
        kind, offset = pointer.buffer.storage, pointer.offset
        if kind in FIXED:
            owner = frame.constants if kind is Storage.CONSTANT else frame.unpacked
            offset += pointer.buffer.offset
        elif kind is Storage.ARENA:
            owner, offset = frame.buffers[-1], pointer.buffer.offset + offset
        else:
            index = pointer.buffer.offset
            index += len(self.program.inputs) if kind is Storage.OUTPUT else 0
            owner = frame.buffers[index]
        if pointer.step and frame.trip is not None:
            return I.handle_add_byte_offset(owner.data, frame.trip * pointer.step + offset)
        return _address(owner, offset)


@dataclass(frozen=True)
class _Frame:
    """What calls are written with: the memory, the threads, their shares, the loop's variable."""

    buffers: list[Any]
    constants: Any
    unpacked: Any
    threads: Any
    shares: Shares | None
    trip: Any = None


def _memory(function: str, size: int) -> Any:
    """The bytes whose address a function of the library says."""
    base = I.bind(I.call_extern("handle", function))
    return I.decl_buffer((max(size, 1),), "uint8", data=base)


def _address(buffer: Any, offset: int = 0) -> Any:
    """The address ``offset`` bytes into a buffer."""
    if not offset:
        return buffer.data
    return I.handle_add_byte_offset(buffer.data, _i32(offset))


def _pragma(name: str) -> Any:
    """What TVM's code generator for threads calls ``pragma_parallel_...``."""
    return I.attr(_i32(0), f"pragma_parallel_{name}", _i32(1))


@contextmanager
def _function(name: str) -> Iterator[IRBuilder]:
    with IRBuilder() as builder, I.prim_func(s_tir=True):
        I.func_name(name)
        I.func_attr({"global_symbol": name, "tirx.noalias": False})
        yield builder


def _i32(value: int) -> Any:
    return tirx.const(value, "int32")
