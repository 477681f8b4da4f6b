"""A graph as an ONNX model: float graphs and those with explicit quantize and dequantize nodes.

The opset is 21, which onnxruntime, OpenVINO and TensorRT take, or the least one that every op has.
"""

from collections.abc import Sequence

import onnx
from onnx import helper, numpy_helper

from ...ir import ops
from ...ir.errors import BackendError, nearest
from ...ir.graph import Graph
from ...ir.unpacked import unpacked
from .emitter import Emitter, value_info
from .forms import write

OPSET = 21
_LIMIT = 2**31 - 2**24
"""Bytes of weights up to which a model fits one protobuf message, names and nodes included."""

_SINCE: dict[type[ops.Op], int] = {ops.RMSNormalization: 23}
_IR_VERSION = {21: 10, 23: 11}


def is_large(model: onnx.ModelProto) -> bool:
    """Whether a model needs its weights in a file of their own (protobuf's limit is 2 GiB).

    The message is not asked for its size: above the limit it cannot say.
    """
    return sum(len(t.raw_data) for t in model.graph.initializer) > _LIMIT


def to_onnx(graph: Graph, outputs: Sequence[str] = ()) -> onnx.ModelProto:
    """The model; ``outputs`` are names of further values that it shall return after its own.

    Raises ``BackendError`` for an op without a standard form (an integer op, say).
    """
    unknown = [name for name in outputs if name not in graph]
    if unknown:
        raise BackendError(
            f"no value {unknown[0]!r}; {nearest(unknown[0], (v.name for v in graph.values))}"
        )
    graph = unpacked(graph)
    emitter = Emitter({v.name for v in graph.values})
    for value in graph.constants:
        assert value.data is not None
        emitter.initializers.append(numpy_helper.from_array(value.data, value.name))
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
    return helper.make_model(
        proto, opset_imports=imports, ir_version=_IR_VERSION[opset], producer_name="qc"
    )
