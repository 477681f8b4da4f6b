"""Types of graph inputs: element types and dimensions that may be symbols."""

import re
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from ..ir.errors import FrontendError
from ..ir.types import DTYPES, Dim, TensorType


def input_type(
    tensor: gs.Tensor, wanted: Sequence[int] | None, symbols: dict[str, int]
) -> TensorType:
    """The type of an input; ``wanted`` dimensions replace symbols, which ``symbols`` then holds."""
    name = tensor.name
    if tensor.dtype is None or tensor.type != "tensor_type":
        kind = str(tensor.type or "value without a type").removesuffix("_type")
        raise FrontendError(f"input {name!r} is a {kind}; only tensors are supported")
    dtype = dtype_name(tensor.dtype)
    if dtype not in DTYPES:
        raise FrontendError(f"input {name!r} has elements of type {dtype}, which is not supported")
    if tensor.shape is None:
        if wanted is None:
            raise FrontendError(f"input {name!r} has no shape; give --input-shape {name}=...")
        return TensorType(dtype, tuple(wanted))
    shape = tuple(_dim(name, i, d) for i, d in enumerate(tensor.shape))
    if wanted is None:
        return TensorType(dtype, shape)
    if len(wanted) != len(shape):
        raise FrontendError(f"input {name!r} has shape {shape}, not {tuple(wanted)}")
    for declared, d in zip(shape, wanted, strict=True):
        bound = symbols.setdefault(declared, int(d)) if isinstance(declared, str) else declared
        if bound != d:
            raise FrontendError(
                f"input {name!r} has shape {shape}: {declared!r} is {bound}, not {d}"
            )
    return TensorType(dtype, tuple(int(d) for d in wanted))


def dtype_name(dtype: object) -> str:
    """Our name of an element type: a numpy type, or the number of one that numpy lacks."""
    if isinstance(dtype, int):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    found = np.dtype(dtype)  # type: ignore[call-overload]
    return "string" if found.kind == "O" else str(found.name)


def _dim(name: str, index: int, d: object) -> Dim:
    if isinstance(d, int) and d > 0:
        return d
    text = re.sub(r"\W", "_", d) if isinstance(d, str) else ""
    return text if text and not text.lstrip("_").isdecimal() else f"{name}.{index}"
