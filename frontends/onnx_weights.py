"""What weights may hold."""

import numpy as np
import onnx_graphsurgeon as gs

from ..ir.errors import FrontendError
from ..ir.types import Array

_MASKS = ("Add", "Where", "Max", "Min", "Clip", "Mul", "Sub", "Concat", "Expand", "Gather", "Slice")


def check_finite(tensor: gs.Constant, array: Array) -> None:
    """Refuse NaN and infinite weights; minus infinity may stand in a mask (``Add``, ...)."""
    if array.dtype.kind not in "fV" or array.dtype.names:
        return
    data = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    finite = np.isfinite(data)
    if finite.all():
        return
    kind = "NaN" if np.isnan(data).any() else "infinite values"
    masks = all(node.op in _MASKS for node in tensor.outputs)
    allowed = data.size == 1 or bool(np.less(data[~finite], 0).all())
    if kind == "NaN" or not masks or not allowed:
        count = int((~finite).sum())
        raise FrontendError(
            f"initializer {tensor.name!r} holds {kind} ({count} of {data.size} elements); "
            "export the network again from a sound checkpoint"
        )
