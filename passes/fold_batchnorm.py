"""``fold-batchnorm``: batch normalization goes into the layer before or after it.

``y = g * (x - mean) + beta`` with ``g = gamma / sqrt(variance + epsilon)``.  ::

    %a = Conv(%x, %w, %b)   %y = BatchNormalization(%a, gamma, beta, mean, variance)
    ->
    %y = Conv(%x, g * %w, g * (%b - mean) + beta)

1. After Conv, ConvTranspose or Gemm that only it reads: into their weights, whatever the padding.
2. Otherwise a 4-D one becomes a depthwise 1x1 convolution (exact, and quantizable).  It is not
   moved into a convolution after it, since zero padding there would pad the normalized values.

Source: Ioffe and Szegedy, "Batch Normalization", 2015, section 3.1 (inference).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph, Node, Value
from ..ir.ops import OPS
from ..ir.types import Array
from .base import Kind, Pass, Statistics
from .context import Context

FOLDABLE = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Fold every batch normalization with constant statistics; see the module's documentation."""

    name: ClassVar[str] = "fold-batchnorm"
    kind: ClassVar[Kind] = Kind.EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    establishes: ClassVar[frozenset[str]] = frozenset({"batchnorm-folded"})

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Fold in graph order."""
        folded = convolved = 0
        for node in list(graph.nodes):
            if node.op.name != "BatchNormalization" or any(
                v.data is None for v in node.operands[1:]
            ):
                continue
            scale, shift = affine(node)
            new = _into_producer(graph, node, scale, shift)
            folded += new is not None
            if new is None:
                new = _as_depthwise(graph, node, scale, shift)
                convolved += new is not None
            if new is not None:
                graph.replace(node.output, new)
        graph.prune()
        return {"rewrites": folded + convolved, "folded": folded, "depthwise": convolved}


def affine(node: Node) -> tuple[Array, Array]:
    """Scale and shift per channel (float64) that a batch normalization is."""
    gamma, beta, mean, variance = (np.asarray(v.data, np.float64) for v in node.operands[1:5])
    scale = gamma / np.sqrt(variance + node.op.epsilon)  # type: ignore[attr-defined]
    return scale, beta - mean * scale


def _into_producer(graph: Graph, node: Node, scale: Array, shift: Array) -> Value | None:
    maker = node.operands[0].producer
    if maker is None or maker.op.name not in FOLDABLE or graph.sole_use(maker.output) is not node:
        return None
    if any(v.data is None for v in maker.operands[1:]):
        return None
    if maker.op.name == "Gemm" and maker.output.type.rank != 2:
        return None  # its channels are not axis 1
    weight = np.asarray(maker.operands[1].data, np.float64)
    wide = _scale_outputs(maker, weight, scale)
    if wide is None:
        return None
    bias = np.zeros(len(scale)) if len(maker.operands) < 3 else np.asarray(maker.operands[2].data)
    if bias.size not in (1, len(scale)):
        return None
    constants = [
        graph.constant(wide.astype(np.float32), maker.operands[1].name),
        graph.constant((bias.reshape(-1) * scale + shift).astype(np.float32), f"{maker.name}.bias"),
    ]
    origin = maker.provenance.touched("fold-batchnorm")
    return graph.add(maker.op, [maker.operands[0], *constants], before=node, origin=origin).output


def _scale_outputs(maker: Node, weight: Array, scale: Array) -> Array | None:
    """Weights with every output channel multiplied; None where the layout does not say which."""
    op = maker.op
    if op.name == "Conv":
        return np.asarray(weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)))
    if op.name == "ConvTranspose":
        group = op.group  # type: ignore[attr-defined]
        split = weight.reshape(group, -1, *weight.shape[1:])
        factor = scale.reshape(group, 1, weight.shape[1], *(1,) * (weight.ndim - 2))
        return np.asarray((split * factor).reshape(weight.shape))
    if op.beta != 1 or op.alpha != 1:  # type: ignore[attr-defined]
        return None
    return np.asarray(weight * (scale[:, None] if op.trans_b else scale))  # type: ignore[attr-defined]


def _as_depthwise(graph: Graph, node: Node, scale: Array, shift: Array) -> Value | None:
    if node.output.type.rank != 4:
        return None
    weight = graph.constant(scale.astype(np.float32).reshape(-1, 1, 1, 1), f"{node.name}.weight")
    bias = graph.constant(shift.astype(np.float32), f"{node.name}.bias")
    op = OPS["Conv"](group=len(scale))  # type: ignore[call-arg]
    origin = node.provenance.touched("fold-batchnorm")
    return graph.add(op, [node.operands[0], weight, bias], before=node, origin=origin).output
