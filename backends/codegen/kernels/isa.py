"""What kernel templates ask of a vector instruction set, and vectors as TIR expressions."""

from collections.abc import Sequence
from typing import Any, Protocol

from tvm import tirx
from tvm.script.ir_builder import tirx as I

Expr = Any
"""A TIR expression; tvm's own classes carry no useful static types."""


class Isa(Protocol):
    """Vectors of ``lanes`` int32."""

    @property
    def lanes(self) -> int:
        """int32 lanes of a vector."""

    @property
    def bytes(self) -> int:
        """The width of a vector in bytes."""

    @property
    def looks_up(self) -> bool:
        """Whether ``look_up`` exists."""

    @property
    def saturates(self) -> bool:
        """Whether ``round`` gives the greatest integer for what is too high."""

    def round(self, value: Expr) -> Expr:
        """Round float32 lanes half to even to int32; what is too low gives the lowest integer."""

    def pack_words(self, low: Expr, high: Expr) -> Expr:
        """Saturate two int32 vectors to one int16 vector, within 128-bit lanes."""

    def pack_bytes(self, low: Expr, high: Expr) -> Expr:
        """Saturate two int16 vectors to one uint8 vector, within 128-bit lanes."""

    def add_saturated(self, value: Expr, constant: int) -> Expr:
        """Add a constant to int16 lanes with saturation."""

    def look_up(self, table: Expr, codes: Expr) -> Expr:
        """``table[codes]`` for ``bytes`` uint8 codes and 256 entries."""


def splat(value: int | float, dtype: str, lanes: int) -> Expr:
    """A vector constant."""
    return tirx.Broadcast(tirx.const(value, dtype), lanes)


def shuffle(vectors: Sequence[Expr], indices: Sequence[int]) -> Expr:
    """The elements of the joined ``vectors`` at ``indices``."""
    return tirx.Shuffle(list(vectors), [tirx.IntImm("int32", i) for i in indices])


def store(buffer: Expr, value: Expr, index: Expr, lanes: int) -> None:
    """Emit the store of a vector at ``buffer[index : index + lanes]``."""
    I.buffer_store(buffer, value, [tirx.Ramp(index, 1, lanes)])


def local(size: int, dtype: str) -> Expr:
    """Emit a stack array; with constant indices LLVM keeps it in registers.

    ``dtype`` should be a vector: LLVM aligns the array to its element, TVM only to 16 bytes.
    """
    buffer = I.alloc_buffer((size,), dtype, scope="local")
    return getattr(buffer, "buffer", buffer)


def call(dtype: str, name: str, *arguments: Expr) -> Expr:
    """A call of an LLVM intrinsic without side effects."""
    return I.call_llvm_pure_intrin(dtype, name, *arguments)
