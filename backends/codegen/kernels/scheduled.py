"""Kernels that a schedule makes of the naive computation: a trace of TVM's schedule primitives.

The schedule's outermost parallel loop becomes the range ``lo .. hi`` of the kernel's signature.
Traces come from a search (``tuning/metaschedule.py``) or the database that keeps what it found.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import s_tir, tirx
from tvm_ffi import structural_walk

from .conv import ConvWorkload
from .depthwise_plan import DepthwiseWorkload
from .epilogue import Epilogue
from .plain import NAME, plain, weights_shape

SCHEDULED = "metaschedule"
"""The template's name."""

LOCAL = 1 << 16
"""Bytes that a kernel may keep on the stack."""

_PARALLEL = tirx.ForKind.PARALLEL


@dataclass(frozen=True)
class Trace:
    """The steps of a schedule and the choices made in them, as JSON text."""

    trace: str

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return len(json.loads(self.trace)[0])


@dataclass(frozen=True)
class Scheduled:
    """The template whose knobs are whole schedules; which ones there are only a search knows."""

    @property
    def shift(self) -> int:
        """Codes are taken as they are."""
        return 0

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: Trace
    ) -> NDArray[np.generic]:
        """OIHW weights as [h, w, inputs, outputs], of depthwise convolutions [h, w, channels]."""
        packed = np.zeros(weights_shape(workload), weights.dtype)
        outputs, inputs = weights.shape[:2]
        if isinstance(workload, DepthwiseWorkload):
            packed[..., :outputs] = weights[:, 0].transpose(1, 2, 0)
        else:
            packed[:, :, :inputs, :outputs] = weights.transpose(2, 3, 1, 0)
        return packed

    def extent(self, workload: ConvWorkload, knobs: Trace) -> int:
        """Iterations of the outermost parallel loop; 1 without one."""
        return _lowered(workload, knobs)[1]

    def knob_space(self, workload: ConvWorkload) -> list[Trace]:
        """None that are known without a search."""
        return []

    def cost(self, workload: ConvWorkload, knobs: Trace) -> float:
        """As vectors of sixteen products a cycle: only measurements choose a schedule."""
        return workload.pixels * float(prod(weights_shape(workload))) / 16

    def prim_func(self, workload: ConvWorkload, knobs: Trace, name: str) -> Any:
        """The kernel ``name``; ``ValueError`` for a trace that does not fit the workload."""
        function, _ = _lowered(workload, knobs)
        return function.with_attr("global_symbol", name)


def has_plain(workload: ConvWorkload) -> bool:
    """Whether schedules can serve a workload: one of integers, whose sums have no order."""
    return isinstance(workload.epilogue, Epilogue)


@lru_cache(maxsize=64)
def _lowered(workload: ConvWorkload, knobs: Trace) -> tuple[Any, int]:
    """The scheduled function as loops with the range among its parameters, and its extent."""
    schedule = s_tir.Schedule(tvm.IRModule({NAME: plain(workload)}))
    try:
        s_tir.schedule.Trace.apply_json_to_schedule(json.loads(knobs.trace), schedule)
    except Exception as error:  # tvm raises many kinds
        said = (str(error).strip().splitlines() or ["no message"])[0]
        raise ValueError(f"the trace does not fit the workload: {said}") from error
    function = _loops(schedule.mod)[NAME]
    if (size := _local_bytes(function.body)) > LOCAL:
        raise ValueError(f"needs {size} bytes of stack, {LOCAL} at most")
    return _ranged(function)


def _loops(module: Any) -> Any:
    """Blocks become loops and stores; buffers are allocated where they are used."""
    return tvm.ir.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.LowerOpaqueBlock(),
        ]
    )(module)


def _local_bytes(body: Any) -> int:
    buffers = [node.buffer for node in _all(body, tirx.AllocBuffer)]
    return sum(prod(map(int, b.shape)) * np.dtype(str(b.dtype)).itemsize for b in buffers)


def _all(body: Any, kind: type[Any]) -> list[Any]:
    """The nodes of a kind."""
    found: list[Any] = []
    structural_walk(body, (kind, found.append))
    return found


def _ranged(function: Any) -> tuple[Any, int]:
    """The outermost loop from ``lo`` to ``hi`` if it is a parallel one, else all of it once."""
    lo, hi = tirx.Var("lo", "int32"), tirx.Var("hi", "int32")
    around, body = [], function.body
    while isinstance(body, tirx.AttrStmt):
        around.append(body)
        body = body.body
    if isinstance(body, tirx.For) and body.kind == _PARALLEL:
        extent = int(body.extent)
        body = tirx.For(body.loop_var, lo, hi - lo, tirx.ForKind.SERIAL, body.body)
    else:
        extent = 1
        once = tirx.Var("once", "int32")
        body = tirx.For(once, lo, hi - lo, tirx.ForKind.SERIAL, body)
    if any(loop.kind == _PARALLEL for loop in _all(body, tirx.For)):
        raise ValueError("has a parallel loop that is not the outermost one")
    for a in reversed(around):
        body = tirx.AttrStmt(a.node, a.attr_key, a.value, body)
    ranged = tirx.PrimFunc([*function.params, lo, hi], body, None)
    return ranged.with_attr("tirx.noalias", True), extent
