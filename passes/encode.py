"""``encode``: operands of layers in number formats of a few bits, weights packed.  ::

    %y = MatMul(%x, %w)
    ->
    %x.d = Decode(Encode(%x))   %w.d = Decode(%w.packed)
    %y = MatMul(%x.d, %w.d)

Formats and their names: :mod:`qc.ir.formats`.  What shares a block: :mod:`qc.passes.blocks.slots`.
Scales come from the numbers of a block; weights are rounded by calibration data, if there are any
(:mod:`qc.passes.rounding.blocks`).  Biases, norms and what lies between layers stay
float, and so do layers that sum over one channel (depthwise convolutions).
No format has a kernel yet: the network runs by the numpy reference, and the ledger says so.

Sources: OCP, "Microscaling Formats (MX) Specification", v1.0, 2023; Guo et al., "Accurate Block
Quantization in LLMs with Outliers", 2024; Liu et al., "LLM-FP4", 2023; Li et al., "RepQ-ViT", 2023.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar

import numpy as np

from ..ir.errors import PreconditionError, nearest
from ..ir.formats import Logarithmic, parse
from ..ir.graph import Graph, Value
from ..ir.mapped import release
from ..ir.ops.base import Op
from ..ir.ops.encoding import Decode, Encode
from ..ir.ops.shape import Reshape
from ..ir.types import Array
from .base import Kind, Pass, Statistics
from .blocks.slots import Slot, Slots, is_probability
from .blocks.tied_tables import tie_tables
from .context import Context
from .rounding.blocks import Packed, across, can_round, rounded

ROUNDINGS = ("nearest", "feedback")
GROUPS = ("inputs", "best")


@dataclass(frozen=True)
class EncodeFormats(Pass):
    """Round operands of layers to number formats and pack weights.

    ``weights``, ``tables`` (of embeddings, and of layers that multiply by the same numbers, which
    are then stored once; default as ``weights``, each for itself), ``activations``, ``inputs``
    (activations that the network gets, default as ``activations``), ``caches`` (keys and values of
    attentions, default as ``activations``): names of formats, empty: float.  ``probabilities``: a
    logarithmic format for what a softmax makes, where its product errs less than with that of
    ``activations`` on ``samples`` of the calibration data.  ``rounding`` of weights: ``nearest``,
    or ``feedback`` (layer after layer by the first ``rounding_samples`` of the calibration data;
    without any to nearest).  Blocks so rounded (``groups``) lie along the
    ``inputs`` of a layer, or where that is ``best`` for its results, in no more bytes, along its
    outputs.  ``curvature``: rows make up for each other's errors by what the network's outputs
    notice, which gradients tell (by torch).  Establishes ``quantized``.
    """

    weights: str = ""
    activations: str = ""
    inputs: str = ""
    caches: str = ""
    probabilities: str = ""
    samples: int = 8
    tables: str = ""
    rounding: str = "feedback"
    rounding_samples: int = 128
    groups: str = "inputs"
    curvature: bool = False

    name: ClassVar[str] = "encode"
    kind: ClassVar[Kind] = Kind.LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    establishes: ClassVar[frozenset[str]] = frozenset({"quantized"})

    def __post_init__(self) -> None:
        """Refuse formats that are none, or not for what they are given."""
        for what, name in [(k, v) for k, v in self.formats.items() if v]:
            logarithmic = isinstance(parse(name), Logarithmic)
            if logarithmic != (what == "probabilities"):
                raise PreconditionError(
                    f"{self.name}.{what} = {name!r}: logarithmic formats are for probabilities, "
                    "which take no others"
                )
        if self.probabilities and not self.activations:
            raise PreconditionError(
                f"{self.name}.probabilities is weighed against the format of activations: give one"
            )
        for option in ("samples", "rounding_samples"):
            if getattr(self, option) < 1:
                raise PreconditionError(f"{self.name}.{option} is less than 1")
        for option, known in (("rounding", ROUNDINGS), ("groups", GROUPS)):
            if (value := getattr(self, option)) not in known:
                hint = nearest(value, known)
                raise PreconditionError(f"{self.name} has no {option} {value!r}; {hint}")

    @property
    def formats(self) -> dict[str, str]:
        """Format names by what is encoded."""
        return {
            "weights": self.weights,
            "tables": self.tables,
            "activations": self.activations,
            "inputs": self.inputs,
            "caches": self.caches,
            "probabilities": self.probabilities,
        }

    def slots(self, graph: Graph, context: Context) -> Slots:
        """What this pass would encode."""
        return Slots.of(graph, self.formats, context.kept)

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Encode ``graph`` in place; ``PreconditionError`` without any format."""
        if not any(self.formats.values()):
            raise PreconditionError(f"{self.name} needs a format: weights, activations or caches")
        if self.tables:
            tie_tables(graph, [n for n in graph.nodes if not context.kept.why(n.name)])
        real = graph.copy()
        slots = self.slots(graph, context)
        context.why_float.update(slots.why_float)
        logarithms = self._logarithms(graph, context, slots)
        work = _Work(graph)
        weights = [s for s in slots.found if s.what == "weights"]
        for slot in slots.found:
            if (name := logarithms.get(slot.node.name)) and slot.operand == 0:
                slot = Slot(slot.node, 0, slot.axis, name, "probabilities")
            if slot.what != "weights":
                work.encode(slot)
        found = self._rounded(real, graph, weights, context)
        for slot in weights:
            packed = found.get(slot.node.output.name)
            work.encode(packed.slot if packed is not None else slot, packed)
        graph.prune()
        return {
            "rewrites": len(work.done),
            **work.count,
            "fitted": len(found),
            "across": sum(packed.slot == across(packed.slot) for packed in found.values()),
            "bits_per_weight": round(work.bits / work.elements, 3) if work.elements else 32,
            "padding": work.padding,
            "runs": f"by the numpy reference: no kernels for {', '.join(self._used(work.count))} "
            "yet",
        }

    def _rounded(
        self, real: Graph, graph: Graph, slots: list[Slot], context: Context
    ) -> Mapping[str, Packed]:
        """The weights that calibration data say how to round, by their layers' results."""
        if self.rounding == "nearest" or context.calibration is None:
            return {}
        users = Counter(slot.key for slot in slots)
        wanted = [slot for slot in slots if can_round(slot, users[slot.key])]
        feeds = list(islice(context.feeds("encode.rounding"), self.rounding_samples))
        best = self.groups == "best"
        return rounded(real, graph, wanted, context, feeds, best, self.curvature)

    def _used(self, count: Iterable[str]) -> list[str]:
        given = {k: v or self.activations for k, v in self.formats.items()}
        return sorted({given[what] for what in count})

    def _logarithms(self, graph: Graph, context: Context, slots: Slots) -> dict[str, str]:
        """Names of the products that take probabilities in logarithms."""
        sites = [
            s for s in slots.found
            if self.probabilities and s.operand == 0 and is_probability(s.value)
        ]  # fmt: skip
        names = [v.name for s in sites for v in s.node.operands[:2]]
        errors = {s.node.name: np.zeros(2) for s in sites}
        if sites:
            run = context.open(graph, list(dict.fromkeys(names)))
            for feed in islice(context.feeds("encode.probabilities"), self.samples):
                found = run(feed)
                for s in sites:
                    p, v = (found[x.name].astype(np.float32) for x in s.node.operands[:2])
                    for i, name in enumerate((s.format, self.probabilities)):
                        errors[s.node.name][i] += _energy((parse(name).round(p, s.axis) - p) @ v)
        return {n: self.probabilities for n, e in errors.items() if e[1] < e[0]}


def _energy(x: Array) -> float:
    return float(np.square(x, dtype=np.float64).sum())


@dataclass
class _Work:
    """A graph whose values are encoded one by one, each once, and what that came to."""

    graph: Graph
    done: dict[tuple[int, int, str, bool], Value] = field(default_factory=dict)
    count: Counter[str] = field(default_factory=Counter)
    bits: int = 0
    elements: int = 0
    padding: int = 0

    def encode(self, slot: Slot, packed: Packed | None = None) -> None:
        """Encode a slot's value; ``packed`` are its bytes, if they are known."""
        key, node = slot.key, slot.node
        if key not in self.done:
            size = slot.value.type.size
            if slot.what == "weights":
                self.elements, self.bits = self.elements + size, self.bits + 8 * slot.bytes
            self.padding += size // slot.length * parse(slot.format).padding(slot.length)
            self.count[slot.what] += 1
            self.done[key] = _encoded(self.graph, slot, packed)
        inputs = list(node.inputs)
        inputs[slot.operand] = self.done[key]
        if packed is not None and packed.bias is not None:
            name = node.operands[2].name if len(node.operands) > 2 else f"{node.output.name}.bias"
            inputs[2:] = [self.graph.constant(packed.bias.astype(np.float32), name)]
        self.graph.set_inputs(node, inputs)


def _encoded(graph: Graph, slot: Slot, packed: Packed | None) -> Value:
    """What is left of a slot's value; weights become packed constants."""
    value, name = slot.value, slot.value.name
    flat = (*value.shape[: slot.axis], slot.length) if slot.rows else value.shape
    encode = Encode(slot.format, slot.axis)
    decode = Decode(slot.format, slot.axis, slot.length, value.type.dtype)

    def add(op: Op, x: Value, suffix: str) -> Value:
        return graph.add(op, [x], names=[f"{name}.{suffix}"], before=slot.node).output

    if value.data is not None:
        data = packed.data if packed is not None else encode.eval([value.data.reshape(flat)])[0]
        release(value.data)
        x = graph.constant(data, f"{name}.packed")
    else:
        x = value if flat == value.shape else add(Reshape(flat), value, "rows")
        x = add(encode, x, "packed")
    x = add(decode, x, "d")
    return x if flat == value.shape else add(Reshape(value.shape), x, "whole")
