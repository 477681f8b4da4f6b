"""What a graph costs (parameters, bytes, multiply-accumulates) and how far results are apart."""

from collections.abc import Sequence
from math import prod

import numpy as np

from ..ir.graph import Graph, Node
from ..ir.types import Array


def parameters(graph: Graph) -> int:
    """Numbers stored in constants."""
    return sum(v.data.size for v in graph.constants if v.data is not None)


def weight_bytes(graph: Graph) -> int:
    """Bytes of all constants."""
    return sum(v.data.nbytes for v in graph.constants if v.data is not None)


def macs(graph: Graph) -> int:
    """Multiply-accumulates of all convolutions and matrix products of one run."""
    return sum(node_macs(node) for node in graph.nodes)


def node_macs(node: Node) -> int:
    """Multiply-accumulates of one node: outputs times the length of each sum."""
    name = node.op.name
    if name in ("Conv", "QConv"):
        return node.output.type.size * prod(node.operands[1].shape[1:])
    if name == "ConvTranspose":
        return node.operands[0].type.size * prod(node.operands[1].shape[1:])
    if name in ("MatMul", "QMatMul"):
        return node.output.type.size * node.operands[0].shape[-1]
    if name == "Gemm":
        k = node.operands[0].shape[0 if getattr(node.op, "trans_a", False) else 1]
        return node.output.type.size * k
    return 0


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
