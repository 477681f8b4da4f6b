"""``quantize``: make the codes explicit by Quantize/Dequantize around integer nodes.

Weights: int8, symmetric, one scale per output channel.  Activations: uint8 (uint16 before a final
softmax or pooling), asymmetric, one scale per group of values that must share it; codes of fewer
bits are small numbers in a uint8.  Biases: int32 in units of ``input scale * weight scale``.  ::

    %y = Conv(%x, %w, %b)
    ->
    %x.q = Quantize(%x)   %x.d = Dequantize(%x.q)
    %w.d = Dequantize(%w.q)   %b.d = Dequantize(%b.q)
    %y = Conv(%x.d, %w.d, %b.d)

Does not handle: weights that are not constant, batched constant weights (they stay float).
Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018, sections 2 and 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import numpy as np

from ..ir.errors import PassError, PreconditionError
from ..ir.give_bias import give_bias
from ..ir.graph import Graph, Node, Value
from ..ir.ops.quantize import Dequantize, Quantize
from .base import Kind, Pass, Statistics
from .context import Context
from .correct_biases import correct_biases
from .linear import Linear
from .plan import Plan, plan, role
from .rounding.feedback import with_feedback
from .rounding.weights import Rounded, WeightCodes, input_scale, rounded

Scale = tuple[float, int]

ALIKE = 1.2
"""Values joined by a concatenation share a scale if that coarsens none by more than this factor."""


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Insert Quantize/Dequantize by the calibrated ranges; see the module's documentation.

    ``weight_bits``, ``activation_bits``: 2 to 8 (inputs of the network keep 8, endings 16);
    ``rounding`` of weights: ``nearest``, ``squant``, or ``gptq`` where
    ``calibrate`` learned the moments of a layer's inputs, or ``feedback``: layer after layer, by
    the first ``samples`` of the calibration data; ``order`` of its columns: ``natural``,
    ``activation``, ``sensitivity``, or the ``best`` for every output.  ``bias_samples``: correct
    biases by what this many samples of the calibration data show (0: do not; below 4 nothing is).
    Layers without a bias are given one where either says what it should be.
    Where ``allocate-bits`` has decided on bits, these count.  Establishes ``quantized``.
    """

    name: ClassVar[str] = "quantize"
    kind: ClassVar[Kind] = Kind.LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"canonical", "calibrated"})
    establishes: ClassVar[frozenset[str]] = frozenset({"quantized"})

    weight_bits: int = 8
    rounding: str = "gptq"
    bias_samples: int = 32
    samples: int = 128
    activation_bits: int = 8
    order: str = "activation"

    def __post_init__(self) -> None:
        """Refuse what weights cannot be rounded to and counts that are none."""
        if self.bias_samples < 0:
            raise PreconditionError(f"{self.name}.bias_samples = {self.bias_samples} is negative")
        if not 2 <= self.activation_bits <= 8:
            raise PreconditionError(
                f"{self.name}.activation_bits = {self.activation_bits} must be from 2 to 8"
            )
        self._codes.check(self.name)

    @property
    def gives_biases(self) -> bool:
        """Whether layers without a bias get one, which takes off what codes change on average."""
        return self.bias_samples > 0 or self.rounding in ("gptq", "feedback")

    @property
    def _codes(self) -> WeightCodes:
        return WeightCodes(self.weight_bits, self.rounding, self.order)

    def draft(self) -> Pass:
        """Codes with the weights rounded in the cheapest way."""
        return replace(self, rounding="nearest", bias_samples=0)

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Quantize everything that the plan gives codes."""
        real = context.real = graph.copy()
        decided = plan(graph, context.kept, self.activation_bits, context.widths.activations)
        context.why_float.update(decided.why_float)
        scales = choose_scales(graph, decided, context)
        anchors = [n for n in graph.nodes if role(n, context.kept) == "anchor"]
        coded = {
            name: insert_codes(graph, graph[name], decided.bits[name], scales[name])
            for name in [v.name for v in graph.values if v.name in decided.bits]
        }
        names = {v.name for v in coded.values()}
        layers = [n for n in anchors if n.operands[1].is_constant and n.operands[0].name in names]
        if self.gives_biases:
            layers = [_with_bias(graph, n) for n in layers]
        self._round(real, graph, layers, context)
        graph.prune()
        corrected = 0
        if self.bias_samples and context.calibration is not None:
            corrected = correct_biases(real, graph, context, self.bias_samples)
        return {
            "rewrites": len(coded) + len(layers),
            "layers": len(layers),
            "activations": len(coded),
            "biases": corrected,
        }

    def _round(self, real: Graph, graph: Graph, layers: list[Node], context: Context) -> None:
        """Replace the weights of ``layers`` by integers."""
        hows = {
            n.output.name: replace(
                self._codes, bits=context.widths.weights.get(n.name, self.weight_bits)
            )
            for n in layers
        }
        found: dict[str, Rounded] = {}
        if self.rounding == "feedback" and context.calibration is not None:
            feeds = list(islice(context.calibration, self.samples))
            found = with_feedback(real, graph, hows, context, feeds)
        for node in layers:
            name, unit = node.output.name, input_scale(node)
            how = hows[name]
            moments = context.moments.pop(name, None)
            made = found[name] if name in found else rounded(Linear(node), unit, how, moments)
            made.write(graph, node, unit)


def _with_bias(graph: Graph, node: Node) -> Node:
    """A layer with a bias, of zeros where it had none."""
    if len(node.operands) > 2:
        return node
    return give_bias(graph, node, np.zeros(Linear(node).channels[1]))


def coder_in(passes: Sequence[Pass]) -> QuantizeStatic | None:
    """The first of ``passes`` that quantizes by calibrated ranges."""
    return next((p for p in passes if isinstance(p, QuantizeStatic)), None)


def choose_scales(graph: Graph, decided: Plan, context: Context) -> dict[str, Scale]:
    """Scale and zero point per value: one for each group, over the union of its members' ranges."""
    spans = {
        root: _Span.of([calibrated(graph[name], context, decided.bits[name]) for name in names])
        for root, names in decided.members().items()
    }
    for operand, result in decided.joints:
        a, b = decided.find(operand), decided.find(result)
        if a != b and decided.bits[a] == decided.bits[b] and spans[a].resembles(spans[b]):
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
    top = None if bits in (8, 16) else 2**bits - 1
    op = Quantize((scale[0],), (scale[1],), dtype=f"uint{max(bits, 8)}", high=top)
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


def calibrated(value: Value, context: Context, bits: int) -> tuple[float, float]:
    """The range for codes of ``bits``; ``PassError`` for a value that calibration did not see."""
    if value.data is not None:
        return float(value.data.min(initial=0.0)), float(value.data.max(initial=0.0))
    found = context.ranges.get(value.name)
    if found is None:
        raise PassError(f"%{value.name} has no calibrated range; calibrate the same graph first")
    return found.span(bits)
