"""Words of TIR for CUDA: memory, barriers and the device functions of ``prelude.cuh``."""

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ..isa import Expr

TEAM = "qc.threads"
"""Attribute of a function: the threads that work on one iteration together (absent: one)."""

WARP = 32


def array(size: int, dtype: str, scope: str = "local") -> Any:
    """Emit an array of the thread's (``local``) or of its block's (``shared``)."""
    buffer = I.alloc_buffer((size,), dtype, scope=scope)
    return getattr(buffer, "buffer", buffer)


def store(buffer: Expr, value: Expr, index: Expr) -> None:
    """Emit the store of one element."""
    I.buffer_store(buffer, value, [index])


def wait() -> None:
    """Let all threads of the block come here; what they stored is seen by all afterwards."""
    I.evaluate(I.tvm_storage_sync("shared"))


def do(name: str, *arguments: Expr) -> None:
    """Emit a call of a device function that returns nothing of use."""
    I.evaluate(I.call_extern("int32", name, *arguments))


def at(buffer: Expr, index: Expr) -> Expr:
    """The address of an element."""
    return I.address_of(buffer[index])


def aligned(name: str, bytes_: int, pointer: str = "") -> str:
    """The function ``name`` for addresses that are multiples of ``bytes_``.

    ``pointer``: the parameter whose own alignment, known later, may be less.
    """
    return f"{name}<qc_least({bytes_}, {pointer}_ptr_aligned)>" if pointer else f"{name}<{bytes_}>"


def i32(value: int) -> Expr:
    """An int32 constant."""
    return tirx.const(value, "int32")


def f32(value: float) -> Expr:
    """A float32 constant."""
    return tirx.const(value, "float32")
