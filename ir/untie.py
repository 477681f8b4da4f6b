"""One constant per use: what several layers share by accident would couple them for nothing.

Exporters store equal tables, masks and ones once.  Matrices stay shared (tied embeddings): there
the coupling is meant.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from .graph import Graph, Node, Value

_MATRICES = ("Gather", "MatMul", "Gemm", "Conv", "ConvTranspose", "Transpose", "Einsum")


def untie(graph: Graph) -> None:
    """Give every elementwise use of a shared constant a copy (of the value, not of the data)."""
    for value in graph.constants:
        for node in list(dict.fromkeys(value.uses))[1:]:
            if node.op.name not in _MATRICES and value.type.size > 1:
                _own(graph, node, value)


def tie(graph: Graph) -> None:
    """Let equal constants be one value again."""
    seen: dict[object, Value] = {}
    for value in graph.constants:
        data = value.data
        assert data is not None
        key = str(value.type), value.type.quant, sha256(data.tobytes()).digest()
        first = seen.setdefault(key, value)
        if first is not value and not graph.is_output(value):
            for node in list(dict.fromkeys(value.uses)):
                graph.set_inputs(node, [first if v is value else v for v in node.inputs])
    graph.prune()


def _own(graph: Graph, node: Node, value: Value) -> None:
    copy = graph.constant(np.asarray(value.data), value.name, value.type)
    graph.set_inputs(node, [copy if v is value else v for v in node.inputs])
