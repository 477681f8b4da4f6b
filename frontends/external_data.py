"""Weights in files beside a model: large ones are mapped, so that they cost no memory of their own.

Source: the ONNX specification, "External Data".
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_tensor,
    uses_external_data,
)

from ..ir.errors import FrontendError
from ..ir.types import Array

MAPPED = 1 << 20
"""Bytes from which weights are mapped."""


def attach(model: onnx.ModelProto, folder: Path, mapping: bool = True) -> dict[str, Array]:
    """Load external data from ``folder`` into the model; what is mapped instead, by its name.

    Mapped are large initializers of the main graph, read-only.  Raises ``FrontendError`` for data
    that are not there, too short, or outside of ``folder``.
    """
    out: dict[str, Array] = {}
    for tensor in model.graph.initializer if mapping else ():
        if uses_external_data(tensor) and (found := _mapped(tensor, folder)) is not None:
            out[tensor.name] = found
    for tensor in chain(*map(_tensors, (model.graph, *model.functions))):
        if uses_external_data(tensor) and tensor.name not in out:
            load_external_data_for_tensor(tensor, str(folder))
    return out


def _mapped(tensor: onnx.TensorProto, folder: Path) -> Array | None:
    """The elements in the file; None for few of them, and for those of less than a byte."""
    info = ExternalDataInfo(tensor)
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except KeyError:
        return None
    shape, offset = tuple(tensor.dims), info.offset or 0
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    packed = info.length is not None and info.length != size
    if size < MAPPED or packed or offset % dtype.itemsize or dtype.hasobject:
        return None
    path = (folder / info.location).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise FrontendError(f"{tensor.name!r} lies in {info.location!r}, outside of {folder}")
    if path.stat().st_size < offset + size:
        raise ValueError(f"{tensor.name!r} ends beyond {info.location!r}")
    return np.asarray(np.memmap(path, dtype, "r", offset, shape))


def _tensors(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a graph: initializers, and attributes of its nodes and inner graphs."""
    if isinstance(graph, onnx.GraphProto):
        yield from graph.initializer
    for attribute in (a for node in graph.node for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)
