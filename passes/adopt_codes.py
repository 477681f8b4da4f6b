"""``adopt-codes``: what another tool has quantized takes our form of Quantize and Dequantize.

Weights become int8 with zero point 0 and a scale per output channel, activations uint8, biases
int32 in units of ``input scale * weight scale``; so that ``fold-integers`` knows them.  ::

    %w.d = Dequantize(%w.q: uint8) {scale=(0.1,), zero_point=(128,)}
    %x.d = Dequantize(Quantize(%x) {zero_point=(-3,), dtype="int8"}) {zero_point=(-3,)}
    ->
    %w.d = Dequantize(%w.q: int8) {scale=(0.1, ..., 0.1), axis=0}
    %x.d = Dequantize(Quantize(%x) {zero_point=(125,)}) {zero_point=(125,)}

Reals stay as they are, except that a bias of reals is rounded to int32.  Does not handle: weights
whose codes do not fit int8 once the zero point is taken off, scales along other axes than the
output channels', and scales known only at run time: those layers stay float.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph, Node, Value
from ..ir.ops.nn import Gemm
from ..ir.ops.quantize import Dequantize, Quantize
from ..ir.types import Array
from .base import Kind, Pass, Statistics
from .codes import codes_of
from .context import Context

_ANCHORS = ("Conv", "Gemm", "MatMul")
_MOVERS = (
    "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice",
    "SpaceToDepth", "Squeeze", "Tile", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Ops that give elements of their first operand, of codes as of reals."""

_HALF = 128


@dataclass(frozen=True)
class AdoptCodes(Pass):
    """Bring foreign codes into our form; see the module.  Establishes ``quantized``."""

    name: ClassVar[str] = "adopt-codes"
    kind: ClassVar[Kind] = Kind.EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    establishes: ClassVar[frozenset[str]] = frozenset({"quantized"})

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Activations before layers: biases are rounded in units of their scales."""
        for node in [n for n in graph.nodes if isinstance(n.op, Quantize)]:
            if node.operands[0].data is not None:
                _stored(graph, node)
        activations = sum(_unsigned(graph, node) for node in list(graph.nodes))
        for node in list(graph.nodes):
            _moved(graph, node)
        layers = [n for n in list(graph.nodes) if n.op.name in _ANCHORS and _layer(graph, n)]
        graph.prune()
        return {
            "rewrites": activations + len(layers),
            "activations": activations,
            "layers": len(layers),
        }


def _stored(graph: Graph, node: Node) -> None:
    """Codes of a constant as a constant: training tools leave reals before a Quantize."""
    codes = node.op.eval([node.operands[0].data])[0]
    graph.replace(node.output, graph.constant(codes, node.output.name))
    graph.remove(node)


def _unsigned(graph: Graph, node: Node) -> bool:
    """Whether ``node`` made int8 codes for Dequantize nodes alone, which are uint8 codes now."""
    op, readers = node.op, node.output.uses
    if not isinstance(op, Quantize) or op.dtype != "int8" or graph.is_output(node.output):
        return False
    if not all(isinstance(n.op, Dequantize) for n in readers):
        return False
    low, high = (b + _HALF for b in op.bounds)
    moved = replace(op, zero_point=_shifted(op.zero_point), dtype="uint8", low=low, high=high)
    if (low, high) == (0, 255):
        moved = replace(moved, low=None, high=None)
    codes = graph.add(
        moved, node.inputs, names=[node.output.name], origin=node.origin, before=node
    ).output
    for reader in list(readers):
        assert isinstance(reader.op, Dequantize)
        real = replace(reader.op, zero_point=_shifted(reader.op.zero_point))
        made = graph.add(
            real, [codes], names=[reader.output.name], origin=reader.origin, before=reader
        )
        graph.replace(reader.output, made.output)
        graph.remove(reader)
    graph.remove(node)
    return True


def _moved(graph: Graph, node: Node) -> None:
    """Move codes instead of reals: ``Flatten(Dequantize(q))`` becomes ``Dequantize(Flatten(q))``.

    Where a Quantize follows, ``fold-integers`` does so itself.
    """
    maker = node.operands[0].producer if node.operands else None
    if node.op.name not in _MOVERS or maker is None or codes_of(node.operands[0]) is None:
        return
    if graph.is_output(node.output) or all(isinstance(n.op, Quantize) for n in node.output.uses):
        return
    inputs = [maker.operands[0], *node.inputs[1:]]
    codes = graph.add(
        node.op, inputs, names=[f"{node.output.name}.codes"], origin=node.origin, before=node
    ).output
    real = graph.add(
        maker.op, [codes], names=[node.output.name], origin=node.origin, before=node
    ).output
    graph.replace(node.output, real)
    graph.remove(node)


def _shifted(zeros: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(z + _HALF for z in zeros)


def _layer(graph: Graph, node: Node) -> bool:
    """Whether ``node`` is a layer of codes with constant weights, which then have our form."""
    x, w = codes_of(node.operands[0]), _Weights.of(node)
    if x is None or w is None or (isinstance(node.op, Gemm) and node.op.trans_a):
        return False
    bias: Value | None = None
    if len(node.operands) > 2:
        found = _reals(node.operands[2])
        if found is None or found.size not in (1, len(w.scale)):
            return False
        unit = (w.scale * np.float32(x.scale)).astype(np.float32)
        steps = np.rint(np.broadcast_to(found.reshape(-1), unit.shape) / unit)
        if np.abs(steps).max(initial=0) >= 2**31:
            return False
        bias = _dequantized(graph, node, 2, steps.astype(np.int32), unit, 0)
    weights = _dequantized(graph, node, 1, w.codes, w.scale, w.axis)
    inputs = [node.inputs[0], weights, *([bias] if bias is not None else [])]
    if isinstance(node.op, Gemm) and node.op.trans_b:
        op = replace(node.op, trans_b=False)
        made = graph.add(op, inputs, names=[node.output.name], origin=node.origin, before=node)
        graph.replace(node.output, made.output)
        graph.remove(node)
    else:
        graph.set_inputs(node, inputs)
    return True


@dataclass(frozen=True)
class _Weights:
    """int8 codes (of a Gemm not transposed), and the scale of each output channel, on ``axis``."""

    codes: Array
    scale: Array
    axis: int

    @staticmethod
    def of(node: Node) -> "_Weights | None":
        """The constant weights of a layer, if they are codes that fit."""
        maker, op = node.operands[1].producer, node.op
        if maker is None or not isinstance(maker.op, Dequantize) or maker.operands[0].data is None:
            return None
        dequantize, data = maker.op, maker.operands[0].data
        turned = isinstance(op, Gemm) and op.trans_b
        if isinstance(op, Gemm) and (op.alpha != 1 or op.beta != 1):
            return None
        axis = 0 if op.name == "Conv" or turned else 1
        if (op.name != "Conv" and data.ndim != 2) or dequantize.axis not in (None, axis):
            return None
        shape = [-1 if i == axis else 1 for i in range(data.ndim)]
        zero = np.broadcast_to(dequantize.zero_point, data.shape[axis]).reshape(shape)
        codes = data.astype(np.int32) - zero
        if codes.min(initial=0) < -_HALF or codes.max(initial=0) >= _HALF:
            return None
        scale = np.broadcast_to(np.asarray(dequantize.scale, np.float32), data.shape[axis])
        if turned:
            codes, axis = codes.T, 1
        return _Weights(np.ascontiguousarray(codes, np.int8), scale, axis)


def _reals(value: Value) -> Array | None:
    """The reals (float64) of a constant, or of constant codes."""
    if value.data is not None:
        return value.data.astype(np.float64)
    node = value.producer
    if node is None or not isinstance(node.op, Dequantize) or node.operands[0].data is None:
        return None
    return node.op.eval([node.operands[0].data])[0].astype(np.float64)


def _dequantized(
    graph: Graph, node: Node, index: int, codes: Array, scale: Array, axis: int
) -> Value:
    name = node.operands[index].name
    scales = tuple(float(s) for s in scale)
    op = Dequantize(scales, (0,) * len(scales), axis)
    stored = graph.constant(codes, f"{name}.codes")
    made = graph.add(op, [stored], names=[name], origin=node.provenance, before=node)
    return made.output
