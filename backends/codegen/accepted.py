"""Which values kernels can hold, and which element types an op has kernels for."""

from ...ir.errors import BackendError
from ...ir.graph import Node, Value

DTYPES = frozenset({
    "bool", "float16", "float32", "float64",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
})  # fmt: skip
"""Element types that can be held."""

MOVED = frozenset({
    "Cast", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "Identity", "If", "Loop", "Reshape", "Scan", "Slice", "SpaceToDepth", "Split", "Squeeze",
    "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""Ops that move or convert elements of any type."""

HALF = MOVED | {"Quantize", "Dequantize"}
"""Ops that take or give float16; networks of float16 are computed in float32."""

DOUBLE = MOVED | {
    "Abs", "Add", "ArgMax", "ArgMin", "Ceil", "Div", "Equal", "Exp", "Floor", "Greater",
    "GreaterOrEqual", "IsNaN", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mod", "Mul",
    "Neg", "Pow", "Reciprocal", "ReduceL1", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare", "Relu", "Round", "Sign", "Sqrt", "Sub", "Sum",
}  # fmt: skip
"""Ops that compute in float64; all others do in float32."""


def check_value(value: Value, where: str) -> None:
    """``BackendError`` where kernels cannot hold a value."""
    if any(isinstance(d, str) for d in value.type.shape):
        raise BackendError(
            f"{where} of %{value.name}, {value.type}, cannot be compiled: its shape is known at "
            "run time only"
        )
    if value.type.dtype not in DTYPES:
        raise BackendError(f"{where} of {value.type.dtype} (%{value.name}) cannot be compiled")


def check_node(node: Node) -> None:
    """``BackendError`` where an op has no kernels for its values."""
    name, where = node.op.name, f"node {node.name!r}: {node.op.name}"
    for value in (*node.operands, *node.outputs):
        check_value(value, where)
        dtype = value.type.dtype
        wide = dtype == "float64" and name not in DOUBLE
        if wide or (dtype == "float16" and name not in HALF):
            raise BackendError(
                f"{where} of {dtype} (%{value.name}) cannot be compiled, only of float32"
            )
