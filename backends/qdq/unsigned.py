"""Signed 8-bit weights as unsigned ones: the same numbers, safe on every x86 machine."""

import numpy as np

from ...ir.graph import Graph
from ...ir.ops.quantize import Dequantize

MIDDLE = 128


def unsigned_weights(graph: Graph) -> Graph:
    """A copy in which constant int8 codes are uint8 codes with zero points moved by 128.

    Runtimes multiply uint8 by int8 with ``pmaddubsw`` where a cpu has AVX2 but not VNNI, which
    saturates sums of two products to 16 bits and ruins networks silently (onnxruntime, "Quantize
    ONNX models", on U8S8 overflow).  For uint8 by uint8 they widen.
    """
    graph = graph.copy()
    for node in list(graph.nodes):
        op, codes = node.op, node.inputs[0] if node.inputs else None
        if not isinstance(op, Dequantize) or codes is None or codes.data is None:
            continue
        if codes.type.dtype != "int8":
            continue
        names = codes.name, node.output.name
        moved = (codes.data.astype(np.int16) + MIDDLE).astype(np.uint8)
        zeros = tuple(z + MIDDLE for z in op.zero_point)
        made = graph.add(
            Dequantize(op.scale, zeros, op.axis, op.dtype),
            [graph.constant(moved)],
            origin=node.origin,
            before=node,
        )
        graph.replace(node.output, made.output)
        graph.remove(node)
        for value, name in zip((made.operands[0], made.output), names, strict=True):
            graph.rename(value, name)
    graph.prune()
    return graph
