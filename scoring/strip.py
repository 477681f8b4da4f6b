"""Take the quantization out of a Q/DQ model: the float network of the same structure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..ir.types import Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def stripped(model: ModelProto) -> ModelProto:
    """A copy without quantize and dequantize nodes: weights dequantized, the rest rewired."""
    from onnx import ModelProto, numpy_helper

    out = ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    stored = {t.name: t for t in graph.initializer}
    arrays = {n: numpy_helper.to_array(t) for n, t in stored.items()}
    source: dict[str, str] = {}
    kept: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in stored:
            source[node.output[0]] = source.get(node.input[0], node.input[0])
        elif node.op_type == "DequantizeLinear" and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
        elif node.op_type == "DequantizeLinear" and node.input[0] in stored:
            real = _dequantized(node, arrays)
            graph.initializer.append(numpy_helper.from_array(real, node.output[0]))
        else:
            kept.append(node)
    for node in _every(kept):
        for i, name in enumerate(node.input):
            node.input[i] = source.get(name, name)
    outputs = {o.name for o in graph.output}
    from onnx import helper

    kept += [helper.make_node("Identity", [source[n]], [n]) for n in outputs if n in source]
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in _every(kept) for name in node.input}
    live = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(live)
    del graph.value_info[:]
    return out


def _every(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """All nodes, those of inner graphs too, which read outer values by name."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _every(attribute.g.node)


def _dequantized(node: NodeProto, arrays: dict[str, Array]) -> Array:
    q, scale = arrays[node.input[0]], arrays[node.input[1]].astype(np.float32)
    zero = arrays[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale, q.dtype)
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    shape = [1] * q.ndim
    if scale.ndim:
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return np.asarray((q.astype(np.int32) - zero.astype(np.int32)).astype(np.float32) * scale)
