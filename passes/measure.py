"""What a graph costs (parameters, bytes, multiply-accumulates) and how far results are apart."""

from collections.abc import Sequence
from math import prod

import numpy as np

from ..ir.graph import Graph, Node, Value
from ..ir.ops.encoding import Decode
from ..ir.stored import stored_bytes
from ..ir.types import Array

_MULTIPLY = frozenset({"Conv", "QConv", "ConvTranspose", "MatMul", "QMatMul", "Gemm"})


def parameters(graph: Graph) -> int:
    """Numbers stored in constants; packed ones count as what they stand for."""
    packed = {
        id(n.operands[0]): n.output.type.size
        for n in graph.nodes
        if isinstance(n.op, Decode) and n.operands[0].is_constant
    }
    return sum(packed.get(id(v), v.type.size) for v in graph.constants)


def weight_bytes(graph: Graph) -> int:
    """Bytes of all constants, weights of fewer than 8 bits without the bits they do not use."""
    return sum(stored_bytes(v.data) for v in graph.constants if v.data is not None)


def macs(graph: Graph) -> int:
    """Multiply-accumulates of one run: convolutions, matrix products, readouts of scans."""
    return sum(node_macs(node) for node in graph.nodes)


def node_macs(node: Node) -> int:
    """Multiply-accumulates of one node: outputs times the length of each sum."""
    axes = mac_axes(node)
    return prod(value.shape[k] for value, k in axes) if axes else 0


def mac_axes(node: Node) -> list[tuple[Value, int]]:
    """The axes whose lengths multiply to a node's multiply-accumulates; none if it has none."""
    name = node.op.name
    if name == "SelectiveScan":
        return [*_axes(node.output), (node.operands[2], 1)]
    if name not in _MULTIPLY:
        return []
    a, b = node.operands[:2]
    if name == "ConvTranspose":
        return [*_axes(a), *_axes(b)[1:]]
    if name in ("Conv", "QConv"):
        return [*_axes(node.output), *_axes(b)[1:]]
    inner = 0 if getattr(node.op, "trans_a", False) else a.type.rank - 1
    return [*_axes(node.output), (a, inner)]


def _axes(value: Value) -> list[tuple[Value, int]]:
    return [(value, k) for k in range(value.type.rank)]


def sqnr_db(reference: Sequence[Array], result: Sequence[Array]) -> float:
    """Signal to quantization noise ratio over all arrays together, in dB (``inf`` if equal).

    Infinite elements of the reference (masks of attention) have no size and do not count.
    """
    signal = noise = 0.0
    for a, b in zip(reference, result, strict=True):
        a64, b64 = np.asarray(a, np.float64), np.asarray(b, np.float64)
        known = ~np.isinf(a64)
        signal += float(np.square(a64, where=known, out=np.zeros_like(a64)).sum())
        noise += float(np.square(np.subtract(a64, b64, where=known, out=np.zeros_like(a64))).sum())
    if noise == 0.0:
        return float("inf")
    return float(10 * np.log10(max(signal, 1e-300) / noise))


def relative_difference(reference: Sequence[Array], result: Sequence[Array]) -> float:
    """Greatest absolute difference of any array pair, over that array's greatest magnitude."""
    worst = 0.0
    for a, b in zip(reference, result, strict=True):
        a64, b64 = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a64.shape != b64.shape:
            return float("inf")
        if a64.size:
            scale = max(float(np.abs(a64).max()), 1e-30)
            worst = max(worst, float(np.abs(a64 - b64).max()) / scale)
    return worst
