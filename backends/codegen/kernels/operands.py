"""The parameters of a kernel, in the order of its C signature."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as I

from .epilogue import Epilogue, FloatEpilogue
from .isa import Expr
from .view import View

SLACK = 64
"""Elements past the end of an input which kernels may read (never use)."""


@dataclass(frozen=True)
class Operands:
    """Buffers of (x, weights, bias, [multiplier], [residual], [table], y) and the range lo..hi."""

    x: Expr
    weights: Expr
    bias: Expr
    multiplier: Expr
    residual: Expr
    table: Expr
    y: Expr
    lo: Expr
    hi: Expr


@dataclass(frozen=True)
class Signature:
    """What the parameters of a kernel are made from; ``weights`` is the number of elements."""

    x: View
    y: View
    epilogue: Epilogue | FloatEpilogue
    residual: View | None
    weights: int
    weights_dtype: str

    def declare(self) -> Operands:
        """Emit the parameters into the PrimFunc being built."""
        x = _array("x", self.x.span + SLACK, self.x.dtype)
        weights = _array("w", self.weights, self.weights_dtype)
        is_float = isinstance(self.epilogue, FloatEpilogue)
        bias = _array("bias", self.y.channels, "float32" if is_float else "int32")
        multiplier = None if is_float else _array("multiplier", self.y.channels, "float32")
        residual = table = None
        if self.residual is not None:
            residual = _array("residual", self.residual.span, self.residual.dtype)
        if isinstance(self.epilogue, Epilogue) and self.epilogue.table:
            table = _array("table", 256, "uint8")
        y = _array("y", self.y.span, self.y.dtype)
        lo, hi = (I.arg(name, tirx.Var(name, "int32")) for name in ("lo", "hi"))
        return Operands(x, weights, bias, multiplier, residual, table, y, lo, hi)


def _array(name: str, size: int, dtype: str) -> Expr:
    return I.arg(name, I.buffer((size,), dtype))


def build(
    name: str, signature: Signature, body: Callable[[Operands], None], noalias: bool = True
) -> Any:
    """The PrimFunc ``name`` whose statements ``body`` emits.

    ``noalias``: whether LLVM may assume that the pointers do not overlap.
    """
    with IRBuilder() as builder, I.prim_func(s_tir=True):
        I.func_name(name)
        I.func_attr({"global_symbol": name, "tirx.noalias": noalias})
        body(signature.declare())
    return builder.get()
