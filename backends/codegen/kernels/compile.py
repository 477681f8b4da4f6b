"""From a PrimFunc to an object file with one plain C function.

The usual pipeline wraps a function in TVM's packed calling convention and turns local buffers
into heap workspaces. Kernels want neither: here buffer parameters become pointers, local buffers
become stack arrays, and nothing checks the arguments.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.ir import PointerType
from tvm.tirx.buffer import is_buffer_var


def compile_kernel(prim_func: Any, name: str, target: Mapping[str, object]) -> bytes:
    """The object file which exports ``prim_func`` as the C function ``name``."""
    module = build_module(prim_func, name, target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.o"
        module.write_to_file(str(path))
        return path.read_bytes()


def build_module(prim_func: Any, name: str, target: Mapping[str, object]) -> Any:
    """TVM's module of the kernel, whose ``inspect_source("asm")`` shows the instructions."""
    # Pointers into views are aligned to elements only: with this width LLVM gets told no more.
    resolved = tvm.target.Target({**target, "vector-width": 8})
    lowered = _lower(prim_func, name, resolved)
    plain = _plain_signature(lowered, name, resolved)
    module = tirx.transform.LowerIntrin()(tvm.IRModule({name: plain}))
    return tvm.get_global_func("target.build.llvm")(module, resolved)


def _lower(prim_func: Any, name: str, target: Any) -> Any:
    module = tvm.IRModule({name: prim_func})
    module = tirx.transform.BindTarget(target.with_host(target))(module)
    return flattened(module)[name]


def flattened(module: Any) -> Any:
    """Flat loops over pointers, simplified and unrolled; for any kind of target."""
    return tvm.ir.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.StmtSimplify(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            tirx.transform.VectorizeLoop(True),
            tirx.transform.StorageRewrite(),
            tirx.transform.UnrollLoop(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
        ]
    )(module)


def _plain_signature(prim_func: Any, name: str, target: Any) -> Any:
    """The same function with pointers in place of buffers."""
    params, declarations = [], []
    for param in prim_func.params:
        if not is_buffer_var(param):
            params.append(param)
            continue
        pointer = tirx.Var(f"{param.name}_ptr", PointerType(param.ty.dtype, "global"))
        params.append(pointer)
        declarations.append(tirx.DeclBuffer(param, data=pointer))
    body = tirx.SeqStmt([*declarations, prim_func.body])
    cpu = tirx.IntImm("int32", 1)
    body = tirx.AttrStmt("default", "device_type", cpu, body)
    body = tirx.AttrStmt("default", "device_id", tirx.IntImm("int32", 0), body)
    attributes = {
        "global_symbol": name,
        "tirx.noalias": prim_func.attrs["tirx.noalias"],
        "target": target,
        "calling_conv": 0,
    }
    plain = tirx.PrimFunc(params, body, None)
    for key, value in attributes.items():
        plain = plain.with_attr(key, value)
    return plain
