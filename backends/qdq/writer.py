"""A graph as an ONNX model: float graphs and those with explicit quantize and dequantize nodes.

The opset is 21, which onnxruntime, OpenVINO and TensorRT take, or the least one that every op has.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from ...ir import ops
from ...ir.errors import BackendError, nearest
from ...ir.graph import Graph
from ...ir.unpacked import unpacked
from .emitter import Emitter, Stored, value_info
from .encoded import is_blocked
from .forms import write

OPSET = 21
SINGLE = 2**28
"""Bytes of weights up to which a model is one file (protobuf's limit is 2 GiB)."""

BESIDE = 2**20
"""Bytes from which a tensor may lie beside a model: it is then copied nowhere."""

_SINCE: dict[type[ops.Op], int] = {ops.RMSNormalization: 23}
_IR_VERSION = {21: 10, 23: 11}
_PAGE = 4096


@dataclass(frozen=True)
class Parted:
    """A model and the large weights that lie ``beside`` it, by name."""

    model: onnx.ModelProto
    beside: Mapping[str, Stored]

    def joined(self) -> "Parted":
        """The same with what is packed in the model: no array can hold it."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            stored = self.beside.get(tensor.name)
            if stored is not None and stored.is_packed:
                tensor.CopyFrom(stored.tensor(tensor.name))
                tensor.raw_data = stored.data.tobytes()
        return Parted(model, {n: s for n, s in self.beside.items() if not s.is_packed})


def save(graph: Graph, path: Path) -> None:
    """Write the graph as a model; large weights go to a file of their own, ``path`` + ``.data``."""
    if sum(v.data.nbytes for v in graph.constants if v.data is not None) <= SINGLE:
        onnx.save(to_onnx(graph), str(path))
        return
    parts = parted(graph)
    weights = path.with_name(f"{path.name}.data")
    with weights.open("wb") as file:
        for tensor in parts.model.graph.initializer:
            if (stored := parts.beside.get(tensor.name)) is not None:
                file.write(bytes(-file.tell() % _PAGE))
                start = file.tell()
                file.write(np.ascontiguousarray(stored.data).reshape(-1).view(np.uint8).data)
                del tensor.external_data[:]
                for key, value in (
                    ("location", weights.name), ("offset", start), ("length", file.tell() - start)
                ):  # fmt: skip
                    tensor.external_data.add(key=key, value=str(value))
    onnx.save(parts.model, str(path))


def to_onnx(graph: Graph, outputs: Sequence[str] = ()) -> onnx.ModelProto:
    """The model with all of its weights; see :func:`parted`."""
    return parted(graph, outputs, math.inf).model


def parted(graph: Graph, outputs: Sequence[str] = (), least: float = BESIDE) -> Parted:
    """The model without tensors of ``least`` bytes and more, and these.

    ``outputs`` are names of further values that it shall return after its own.
    Raises ``BackendError`` for an op without a standard form (an integer op, say).
    """
    unknown = [name for name in outputs if name not in graph]
    if unknown:
        raise BackendError(
            f"no value {unknown[0]!r}; {nearest(unknown[0], (v.name for v in graph.values))}"
        )
    graph = unpacked(graph, keep=is_blocked)
    emitter = Emitter({v.name for v in graph.values}, least=least)
    for value in graph.constants:
        assert value.data is not None
        if not (value.uses and all(is_blocked(n) for n in value.uses)):
            emitter.initializer(value.data, value.name)
    for node in graph.nodes:
        write(node, emitter)
    own = [v.name for v in graph.outputs]
    wanted = [*own, *(name for name in dict.fromkeys(outputs) if name not in own)]
    proto = helper.make_graph(
        emitter.nodes,
        graph.name,
        [value_info(v) for v in graph.inputs],
        [value_info(graph[name]) for name in wanted],
        emitter.initializers,
    )
    opset = max([OPSET, *(_SINCE.get(type(n.op), 0) for n in graph.nodes)])
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(domain, 1) for domain in sorted(emitter.domains)]
    model = helper.make_model(
        proto, opset_imports=imports, ir_version=_IR_VERSION[opset], producer_name="qc"
    )
    return Parted(model, emitter.beside)
