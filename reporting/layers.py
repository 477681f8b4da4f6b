"""Facts about single layers for the report: precision, range, scale, error, why float."""

import math
from collections.abc import Mapping, Sequence

from ..ir.graph import Graph, Node, Value
from ..ir.ops.encoding import Decode
from ..ir.ops.integer import IntegerOp, QConv, QMatMul
from ..ir.ops.quantize import Dequantize, DynamicDequantize, DynamicQuantize, Quantize
from ..ir.stored import code_bits
from ..ir.types import Array
from ..passes.codes import greatest_code
from ..passes.context import Context
from ..passes.measure import node_macs
from ..scoring.metrics import Sqnr

MOVES = frozenset({
    "Cast", "Concat", "Decode", "Dequantize", "Encode", "Expand", "Flatten", "Gather", "Identity",
    "Reshape", "Shape",
    "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Quantize",
})  # fmt: skip
"""Ops that compute nothing: they are no layers."""


def is_integer(node: Node) -> bool:
    """Whether a node of a folded graph computes on codes (or makes or reads them)."""
    codes = (Quantize, Dequantize, DynamicQuantize, DynamicDequantize)
    return isinstance(node.op, (IntegerOp, *codes))


def islands(graph: Graph) -> list[Node]:
    """Nodes of a folded graph that compute in floating point."""
    return [
        n for n in graph.nodes
        if n.op.name == "DequantizeAccumulator"
        or (not (is_integer(n) or n.op.name in MOVES)
        and any(v.type.is_float for v in n.outputs))
    ]  # fmt: skip


EXACT = frozenset({
    "Abs", "Add", "Clip", "Div", "DequantizeAccumulator", "GlobalMaxPool", "MaxPool", "Max", "Min",
    "Mul", "Neg", "Pad", "Relu", "Resize", "Sub", "Where",
})  # fmt: skip
"""Float ops that give the same bits on every machine."""


LEAST_DB = 10.0
"""However noisy the quantization: what is farther than this is wrong."""


def tolerance_db(graph: Graph, ledger: Sequence[Mapping[str, object]]) -> float | None:
    """How far below the outputs code and reference may differ, where codes follow float sums.

    Sums that end in another last bit move codes by a step, and such steps spread: where codes are
    made *after* inexact float ops, two right results differ like two ways to quantize the network,
    by its quantization noise (``sqnr_db`` of the ledger's last row) and 6 dB more.  None: no codes
    follow such ops, or the noise is not known.
    """
    inexact = {id(n) for n in islands(graph) if n.op.name not in EXACT}
    moved: set[int] = set()
    for node in graph.nodes:
        before = any(id(v) in moved for v in node.operands)
        if before and node.op.name in ("Quantize", "DynamicQuantize"):
            noise = ledger[-1].get("sqnr_db") if ledger else None
            return max(noise - 6.0, LEAST_DB) if isinstance(noise, int | float) else None
        if before or id(node) in inexact:
            moved.update(id(v) for v in node.outputs)
    return None


def describe(
    real: Graph,
    quantized: Graph,
    folded: Graph,
    context: Context,
    ledger_facts: Mapping[str, object],
) -> list[dict[str, object]]:
    """One record per layer of ``real`` (the float graph before it was quantized), in its order."""
    noise = _noise(real, quantized, context)
    floats = {n.name for n in islands(folded) if n.op.name != "DequantizeAccumulator"}
    integers = {n.name for n in folded.nodes if is_integer(n)}
    out = []
    for node in real.nodes:
        if node.op.name in MOVES or not any(v.type.is_float for v in node.outputs):
            continue
        stays = node.name in floats and node.name not in integers
        record = _record(node, folded, context, stays)
        if (db := noise.get(node.output.name)) is not None:
            record["sqnr_db"] = round(db, 2)
        facts = ledger_facts.get(node.name)
        out.append({**record, **facts} if isinstance(facts, dict) else record)
    return out


def _record(node: Node, folded: Graph, context: Context, stays: bool) -> dict[str, object]:
    name = node.output.name
    formats = _formats(name, folded) if node_macs(node) else ""
    record: dict[str, object] = {
        "name": node.name,
        "op": node.op.name,
        "precision": formats or "float" if stays else "int8",
        "macs": node_macs(node),
    }
    record |= {} if stays else _bits(name, folded)
    if (seen := context.ranges.get(name)) is not None:
        record |= {"low": seen.least, "high": seen.greatest}
    for value in (f"{name}.q", name):
        quant = folded[value].type.quant if value in folded else None
        if quant is not None and not isinstance(quant.scale, str) and len(quant.scale) == 1:
            record |= {"scale": quant.scale[0], "zero_point": quant.zero_point[0]}
            break
    if stays and not formats:
        record["reason"] = context.why_float.get(node.name, "")
    return record


def _bits(name: str, folded: Graph) -> dict[str, object]:
    """Bits of what an integer layer multiplies: its input's codes, and its weights."""
    values = [folded[v] for v in (f"{name}.q", name) if v in folded]
    maker = values[0].producer if values else None
    if maker is None or not isinstance(maker.op, QConv | QMatMul):
        return {}
    x, w = maker.operands[:2]
    if not x.type.dtype.startswith("uint"):
        return {}
    found: dict[str, object] = {"activation_bits": greatest_code(x).bit_length()}
    return found if w.data is None else {**found, "weight_bits": code_bits(w.data)}


def _formats(name: str, folded: Graph) -> str:
    """The number formats of the operands of the node that makes a value."""
    maker = folded[name].producer if name in folded else None
    formats = [_format(v) for v in maker.operands] if maker is not None else []
    return " x ".join(dict.fromkeys(f for f in formats if f))


def _format(value: Value) -> str:
    """The number format that a value was in before it was moved about."""
    while (maker := value.producer) is not None and maker.op.name in MOVES:
        if isinstance(maker.op, Decode):
            return maker.op.format
        value = maker.operands[0]
    return ""


def _noise(real: Graph, quantized: Graph, context: Context) -> dict[str, float]:
    """SQNR in dB of every result that both graphs have, over a few feeds."""
    names = [
        v.name for n in real.nodes for v in n.outputs
        if v.type.is_float and v.name in quantized and quantized[v.name].type.is_float
        and not quantized[v.name].is_constant
    ]  # fmt: skip
    if not names or "quantized" not in quantized.properties:
        return {}
    ratios = {name: Sqnr() for name in names}
    run, rerun = context.open(real, names), context.open(quantized, names)
    for feed in context.probes(real):
        _add(ratios, run(feed), rerun(feed))
    return {name: r.db for name, r in ratios.items() if math.isfinite(r.db)}


def _add(ratios: dict[str, Sqnr], a: Mapping[str, Array], b: Mapping[str, Array]) -> None:
    for name, ratio in ratios.items():
        ratio.update([a[name]], [b[name]])
