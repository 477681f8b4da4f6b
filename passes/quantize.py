"""``quantize``: make the codes explicit by Quantize/Dequantize around integer nodes.

Weights: int8, symmetric, one scale per output channel.  Activations: uint8 (uint16 before a final
softmax or pooling), asymmetric, one scale per group of values that must share it.  Biases: int32 in
units of ``input scale * weight scale``.  ::

    %y = Conv(%x, %w, %b)
    ->
    %x.q = Quantize(%x)   %x.d = Dequantize(%x.q)
    %w.d = Dequantize(%w.q)   %b.d = Dequantize(%b.q)
    %y = Conv(%x.d, %w.d, %b.d)

Does not handle: weights that are not constant, batched constant weights (they stay float).
Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018, sections 2 and 3.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.errors import PassError, PreconditionError
from ..ir.graph import Graph, Node, Value
from ..ir.ops.quantize import Dequantize, Quantize
from ..ir.types import Array, PerAxis, Quantization, TensorType
from .base import Kind, Pass, Statistics
from .context import Context
from .plan import Plan, plan, role

Scale = tuple[float, int]

ALIKE = 1.2
"""Values joined by a concatenation share a scale if that coarsens none by more than this factor."""

GRID_TOLERANCE = 1e-3
"""How far from a point of its grid a dequantized weight may lie, in steps (float32 rounding)."""


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Insert Quantize/Dequantize by the calibrated ranges; see the module's documentation.

    ``weight_bits``: 2 to 8.  Establishes ``quantized``.
    """

    name: ClassVar[str] = "quantize"
    kind: ClassVar[Kind] = Kind.LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"canonical", "calibrated"})
    establishes: ClassVar[frozenset[str]] = frozenset({"quantized"})

    weight_bits: int = 8

    def __post_init__(self) -> None:
        """Refuse widths that int8 cannot hold."""
        check_weight_bits(self.name, self.weight_bits)

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Quantize everything that the plan gives codes."""
        decided = plan(graph, context.keep_float)
        context.why_float.update(decided.why_float)
        scales = choose_scales(graph, decided, context)
        anchors = [n for n in graph.nodes if role(n, context.keep_float) == "anchor"]
        coded = {
            name: insert_codes(graph, graph[name], decided.bits[name], scales[name])
            for name in [v.name for v in graph.values if v.name in decided.bits]
        }
        layers = 0
        for node in anchors:
            if node.operands[1].is_constant and node.operands[0].name in coded_names(coded):
                scale = coded_scale(node.operands[0])
                quantize_weights(graph, node, scale, self.weight_bits)
                layers += 1
        graph.prune()
        return {"rewrites": len(coded) + layers, "layers": layers, "activations": len(coded)}


def check_weight_bits(name: str, bits: int) -> None:
    """``PreconditionError`` unless ``bits`` is from 2 to 8."""
    if not 2 <= bits <= 8:
        raise PreconditionError(f"{name}.weight_bits = {bits} must be from 2 to 8")


def coded_names(coded: dict[str, Value]) -> set[str]:
    """Names of the dequantized values."""
    return {v.name for v in coded.values()}


def coded_scale(value: Value) -> float:
    """The scale of a dequantized activation."""
    op = value.producer.op if value.producer is not None else None
    assert isinstance(op, Dequantize)
    return op.scale[0]


def choose_scales(graph: Graph, decided: Plan, context: Context) -> dict[str, Scale]:
    """Scale and zero point per value: one for each group, over the union of its members' ranges."""
    spans = {
        root: _Span.of([_range(graph[name], context) for name in names])
        for root, names in decided.members().items()
    }
    for operand, result in decided.joints:
        a, b = decided.find(operand), decided.find(result)
        if a != b and spans[a].resembles(spans[b]):
            decided.tie(a, b)
            spans[decided.find(a)] = spans[a].joined(spans[b])
    out: dict[str, Scale] = {}
    for root, names in decided.members().items():
        pair = affine(spans[root].low, spans[root].high, decided.bits[names[0]])
        out.update(dict.fromkeys(names, pair))
    return out


@dataclass(frozen=True)
class _Span:
    """The union of some ranges, and the width of the narrowest group of those joined."""

    low: float
    high: float
    narrowest: float

    @staticmethod
    def of(ranges: list[tuple[float, float]]) -> "_Span":
        low, high = min(0.0, *(a for a, _ in ranges)), max(0.0, *(b for _, b in ranges))
        return _Span(low, high, high - low)

    def joined(self, other: "_Span") -> "_Span":
        low, high = min(self.low, other.low), max(self.high, other.high)
        return _Span(low, high, min(self.narrowest, other.narrowest))

    def resembles(self, other: "_Span") -> bool:
        """Whether sharing a scale coarsens neither by more than ``ALIKE``."""
        both = self.joined(other)
        return both.high - both.low <= ALIKE * both.narrowest


def affine(low: float, high: float, bits: int) -> Scale:
    """Scale (float32) and zero point so that ``[low, high]``, which holds zero, spans the codes."""
    top = 2**bits - 1
    scale = float(np.float32((high - low) / top)) or 1.0
    if not np.isfinite(1.0 / scale):
        scale = 1.0
    return scale, int(np.clip(np.rint(-low / scale), 0, top))


def insert_codes(graph: Graph, value: Value, bits: int, scale: Scale) -> Value:
    """Quantize ``value`` right after its definition; every reader sees the dequantized codes."""
    readers = list(value.uses)
    op = Quantize((scale[0],), (scale[1],), dtype=f"uint{bits}")
    first = min(map(graph.index, readers), default=None)
    before = graph.nodes[first] if first is not None else None
    q = graph.add(op, [value], names=[f"{value.name}.q"], before=before)
    d = graph.add(
        Dequantize(op.scale, op.zero_point), [q.output], names=[f"{value.name}.d"], before=before
    )
    for reader in dict.fromkeys(readers):
        graph.set_inputs(reader, [d.output if v is value else v for v in reader.inputs])
    if graph.is_output(value):
        graph.outputs = [d.output if v is value else v for v in graph.outputs]
        graph._swap_names(value, d.output)
    return d.output


def channel_axis(node: Node) -> int:
    """The axis of the weights that runs over output channels."""
    return 0 if node.op.name == "Conv" else 1


def quantize_weights(graph: Graph, node: Node, input_scale: float, bits: int) -> None:
    """Replace weights and bias of an anchor by dequantized integers."""
    weight, bias = node.operands[1], node.operands[2] if len(node.operands) > 2 else None
    axis = channel_axis(node)
    assert weight.data is not None
    flat = np.moveaxis(np.asarray(weight.data, np.float64), axis, 0).reshape(weight.shape[axis], -1)
    b = None if bias is None or bias.data is None else _bias(bias.data, len(flat))
    scale = weight_scales(flat, b, input_scale, bits)
    top = 2 ** (bits - 1) - 1
    taps = int(np.prod(weight.shape[2:])) if axis == 0 else 1
    q = np.clip(balanced(flat / scale[:, None], taps), -top, top).astype(np.int8)
    shape = np.moveaxis(np.empty(weight.shape, bool), axis, 0).shape
    codes = np.moveaxis(q.reshape(shape), 0, axis)
    inputs = [node.inputs[0], _dequantized(graph, node, weight.name, codes, scale, axis)]
    if b is not None and bias is not None:
        unit = np.asarray(scale * input_scale, np.float32)
        whole = np.rint(b / unit).astype(np.int64)
        inputs.append(_dequantized(graph, node, bias.name, whole.astype(np.int32), unit, 0))
    graph.set_inputs(node, inputs)


def weight_scales(rows: Array, bias: Array | None, input_scale: float, bits: int) -> Array:
    """Float32 scale per output channel; large enough that the bias fits well inside int32.

    Rows that lie on a grid already (weights of a network trained with quantization and then
    dequantized) keep it where the codes reach that far, and so lose nothing.
    """
    top = 2 ** (bits - 1) - 1
    reach = np.abs(rows).max(1, initial=0.0)
    scale = reach / top
    step = grid_step(rows)
    if step is not None:
        steps = np.rint(reach / step)
        fits = (steps > 0) & (steps <= top)
        scale[fits] = step / (top // steps[fits])
    if bias is not None:
        scale = np.maximum(scale, np.abs(bias) / (input_scale * 2.0**29))
    scale = np.where(scale > 0, scale, 1.0)
    return np.maximum(scale.astype(np.float32), np.finfo(np.float32).tiny).astype(np.float64)


def balanced(rows: Array, taps: int) -> Array:
    """Integers near ``rows`` whose errors sum to less than one half over each filter and each row.

    Inputs of one sign (images, what a ReLU lets through) turn a sum of rounding errors into an
    offset of the whole channel, which hurts more than the errors themselves.  ``taps``: weights
    of one filter, which lie together in a row.  Guo et al., "SQuant: On-the-Fly Data-Free
    Quantization via Diagonal Hessian Approximation", 2022, section 3, in two of its three stages.
    """
    codes = np.rint(rows)
    for width in dict.fromkeys(w for w in (taps, rows.shape[1]) if w > 1):
        real, whole = rows.reshape(-1, width), codes.reshape(-1, width)
        error = whole - real
        total = error.sum(1, keepdims=True)
        order = np.argsort(-error * np.sign(total), axis=1, kind="stable")
        flips = np.arange(width) < np.rint(np.abs(total))
        change = np.zeros_like(whole)
        np.put_along_axis(change, order, np.where(flips, np.sign(total), 0.0), 1)
        codes = (whole - change).reshape(rows.shape)
    return codes


def grid_step(weights: Array) -> float | None:
    """The step of the uniform grid through zero, of at most 511 points, that all weights lie on."""
    points = np.unique(np.abs(weights))
    if not 2 <= len(points) <= 256:
        return None
    step = float(np.diff(points).min())
    step = float(points[-1]) / max(round(points[-1] / step), 1)
    multiples = points / step
    on_it = multiples[-1] <= 255.5 and np.abs(multiples - np.rint(multiples)).max() < GRID_TOLERANCE
    return step if on_it else None


def _dequantized(
    graph: Graph, node: Node, name: str, codes: Array, scale: Array, axis: int
) -> Value:
    scales = tuple(float(s) for s in np.asarray(scale, np.float32))
    zeros = (0,) * len(scales)
    quant = Quantization(scales, zeros, PerAxis(axis))
    typed = TensorType(codes.dtype.name, tuple(codes.shape), quant)
    constant = graph.constant(codes, f"{name}.q", typed)
    op = Dequantize(scales, zeros, axis)
    return graph.add(op, [constant], names=[f"{name}.d"], before=node).output


def _bias(data: Array, channels: int) -> Array:
    flat = np.asarray(data, np.float64).ravel()
    if flat.size not in (1, channels):
        raise PassError(f"a bias of {flat.size} numbers for {channels} channels")
    return np.broadcast_to(flat, (channels,))


def _range(value: Value, context: Context) -> tuple[float, float]:
    if value.data is not None:
        return float(value.data.min(initial=0.0)), float(value.data.max(initial=0.0))
    found = context.ranges.get(value.name)
    if found is None:
        raise PassError(f"%{value.name} has no calibrated range; calibrate the same graph first")
    return found.low, found.high
