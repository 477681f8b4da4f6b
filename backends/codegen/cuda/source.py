"""From a kernel's TIR to the text of one ``__global__`` function.

A kernel comes as ``(pointers..., lo, hi)`` over independent iterations.  Here ``lo`` becomes the
number of the thread, or of the block where the attribute ``qc.threads`` says that so many threads
work on one iteration together.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import tvm
from tvm import tirx
from tvm.ir import PointerType

from ....ir.errors import BackendError
from ..kernels.compile import flattened
from ..kernels.cuda.device import TEAM
from ..program import Kernel
from .batches import Batch

THREADS = 128
"""Of a block whose threads work alone."""

_DEFINITION = 'extern "C" __global__ '


@dataclass(frozen=True)
class Source:
    """The text of the kernel ``name`` and how it is launched.

    A grid has ``blocks`` x ``samples`` blocks of ``threads``, which wait for each other in a
    ``team``.
    """

    name: str
    text: str
    blocks: int
    threads: int
    team: bool
    samples: int = 1


@dataclass(frozen=True)
class Translate:
    """The source of ``kernel`` as ``name`` for TVM's description of a target.

    ``alignments``: bytes that all addresses of each pointer are multiples of.
    """

    kernel: Kernel
    name: str
    target: Mapping[str, object]
    alignments: tuple[int, ...]

    def __call__(self) -> Source:
        """Emit and translate."""
        emitted = self.kernel.emit(self.name)
        attributes = emitted.function.attrs
        team = int(attributes[TEAM]) if TEAM in attributes else 0
        threads = team or THREADS
        blocks = emitted.extent if team else -(-emitted.extent // THREADS)
        if not 0 < blocks < 2**31:
            raise BackendError(f"{emitted.extent} iterations do not fit a grid")
        shape = Source(self.name, "", blocks, threads, bool(team))
        bound = _bound(emitted.function, emitted.extent, shape)
        text = self._aligned(_translate(bound, self.name, self.target))
        if not isinstance(self.kernel, Batch):
            return replace(shape, text=text)
        return replace(shape, text=_stepping(text, self.kernel), samples=self.kernel.samples)

    def _aligned(self, text: str) -> str:
        """With a constant for the alignment of each pointer, which loads are chosen by."""
        head, brace, body = text.partition("{\n")
        names = re.findall(r"(\w+_ptr)\b", head)
        known = "".join(
            f"  constexpr int {name}_aligned = {bytes_};\n"
            for name, bytes_ in zip(names, self.alignments, strict=False)
        )
        return head + brace + known + body


def _stepping(text: str, batch: Batch) -> str:
    """A kernel that calls the given one for the sample ``blockIdx.y``."""
    head = text.partition("{\n")[0]
    found = re.fullmatch(r"(.*) (\w+)\((.*)\) ", head)
    assert found is not None
    start, name, parameters = found.groups()
    types = [p.split("*")[0] for p in parameters.split(", ")]
    pointers = re.findall(r"\w+_ptr", parameters)
    moved = ", ".join(
        f"({t} *)((char *){p} + blockIdx.y * {step}ll)" if step else p
        for t, p, step in zip(types, pointers, batch.steps, strict=True)
    )
    own = f"static __device__ __forceinline__ void {name}_sample({parameters}) "
    call = f"{start} {name}({parameters}) {{\n  {name}_sample({moved});\n}}\n"
    return f"{own}{text[len(head) :]}\n{call}"


def _bound(function: Any, extent: int, shape: Source) -> Any:
    """The same function without ``lo`` and ``hi``, for the thread that runs it."""
    *pointers, lo, hi = function.params
    block = tirx.Var("blockIdx.x", "int32")
    thread = tirx.Var("threadIdx.x", "int32")
    step = block if shape.team else block * shape.threads + thread
    body = tirx.SeqStmt([tirx.Bind(lo, step), tirx.Bind(hi, step + 1), function.body])
    if not shape.team:
        if extent % shape.threads:
            body = tirx.IfThenElse(step < extent, body, None)
        body = _extent(thread, "threadIdx.x", shape.threads, body)
    body = _extent(block, "blockIdx.x", shape.blocks, body)
    return tirx.PrimFunc(pointers, body, None)


def _extent(variable: Any, tag: str, size: int, body: Any) -> Any:
    axis = tirx.IterVar(None, variable, tirx.IterVar.ThreadIndex, tag)
    return tirx.AttrStmt(axis, "thread_extent", tirx.IntImm("int32", size), body)


def _translate(function: Any, name: str, target: Mapping[str, object]) -> str:
    resolved = tvm.target.Target(dict(target))
    function = function.with_attr("global_symbol", name).with_attr("tirx.noalias", True)
    module = tirx.transform.BindTarget(resolved)(tvm.IRModule({name: function}))
    lowered = flattened(module)[name]
    plain = _plain_signature(lowered, name, resolved)
    module = tirx.transform.LowerIntrin()(tvm.IRModule({name: plain}))
    source = tvm.get_global_func("target.build.cuda")(module, resolved).inspect_source()
    return _DEFINITION + str(source).rpartition(_DEFINITION)[2].strip() + "\n"


def _plain_signature(function: Any, name: str, target: Any) -> Any:
    """The same function as a device kernel with pointers in place of buffers."""
    pointers = [
        tirx.Var(f"{p.name}_ptr", PointerType(p.ty.dtype, "global")) for p in function.params
    ]
    declared = [tirx.DeclBuffer(p, data=x) for p, x in zip(function.params, pointers, strict=True)]
    plain = tirx.PrimFunc(pointers, tirx.SeqStmt([*declared, function.body]), None)
    attributes = {
        "global_symbol": name,
        "tirx.noalias": True,
        "target": target,
        "calling_conv": 2,
    }
    for key, value in attributes.items():
        plain = plain.with_attr(key, value)
    return plain
