"""Which layers a recipe hurts: measured layer by layer, before any code is generated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass

import numpy as np

from ..compiler import Prepared, prepare
from ..costs import TargetCost
from ..ir.errors import DataError, PreconditionError
from ..ir.graph import Node
from ..ir.types import Array
from ..job import Job
from ..passes.bits.curves import curves
from ..passes.bits.sites import WEIGHTS, sites_of
from ..passes.context import Context
from ..passes.linear import Linear
from ..passes.plan import plan, role
from ..passes.quantize import QuantizeStatic, coder_in
from ..passes.recipe import Recipe
from ..passes.statistics.streaming import ChannelStatistics, stream
from ..progress import Progress, Silent
from ..reporting.layers import describe
from ..reporting.report import Facts
from ..targets import load as load_target
from ..tuning import database_path, open_database


@dataclass(frozen=True)
class Analysis:
    """What a recipe does to a network.

    ``sqnr_db``: of the outputs, with everything quantized.  ``layers``, the most damaging first:
    ``sqnr_db`` of the layer's result with everything quantized; ``weights_db`` and
    ``activations_db`` of the outputs with nothing but the layer's weights (to the nearest codes),
    or operands, quantized; ``share`` of the noise that these add up to; ``low`` and ``high`` of its
    input; ``outliers``: how far that input's widest channel reaches over the median one.
    ``sites``: the channels that were equalized.
    """

    recipe: str
    sqnr_db: float | None
    layers: list[Facts]
    sites: list[Facts]


def analyze(job: Job, samples: int = 16, progress: Progress | None = None) -> Analysis:
    """Run all passes and measure each layer alone, on ``samples`` of the calibration data.

    Raises ``PreconditionError`` for a recipe without ``quantize``, ``DataError`` without data.
    """
    if samples < 1:
        raise DataError(f"--samples {samples} is less than 1")
    show = progress or Silent()
    recipe = job.load_recipe()
    _coder(recipe)
    target = load_target(job.target)
    with ExitStack() as stack:
        cost = None
        if not target.arch:
            database = open_database(database_path(job.database))
            cost = stack.enter_context(closing(TargetCost(target, database, None)))
        prepared = prepare(job, target, cost, show)
    coder = _coder(prepared.recipe)  # a network that is quantized already gets another recipe
    stages, context = prepared.stages, prepared.context
    described = describe(stages.real, stages.quantized, stages.folded, context, {})
    known = {str(x["name"]): x for x in described}
    anchors = [n for n in stages.real.nodes if role(n, context.kept) == "anchor"]
    damage = _damage(prepared, coder, anchors, samples)
    inputs = _inputs(anchors, context, prepared)
    layers = [
        {**_facts(known.get(n.name, {}), n), **inputs.get(n.name, {}), **damage[n.name]}
        for n in anchors
    ]
    layers.sort(key=lambda x: -float(str(x["share"])))
    show.done()
    rows = [row.sqnr_db for row in prepared.ledger.rows if row.sqnr_db is not None]
    sites = [asdict(e) for e in context.equalized]
    return Analysis(prepared.recipe.name, rows[-1] if rows else None, layers, sites)


def _facts(described: Facts, node: Node) -> Facts:
    return {
        "name": node.name,
        "op": node.op.name,
        "precision": described.get("precision"),
        "sqnr_db": described.get("sqnr_db"),
    }


def _coder(recipe: Recipe) -> QuantizeStatic:
    coder = coder_in(recipe.passes)
    if coder is None:
        raise PreconditionError(
            f"recipe {recipe.name!r} does not quantize by calibrated ranges, so there is nothing "
            "to analyze; take one that does, as int8 or w4a8"
        )
    return coder


def _damage(
    prepared: Prepared, coder: QuantizeStatic, anchors: Sequence[Node], samples: int
) -> dict[str, Facts]:
    """Of every layer that can be integer, what its own codes do to the outputs."""
    graph, context = prepared.stages.real, prepared.context
    decided = plan(graph, context.kept, coder.activation_bits)
    sites = sites_of(graph, decided, context.kept)
    widths = context.widths
    bits = [
        widths.weights.get(s.members[0], coder.weight_bits)
        if s.kind == WEIGHTS
        else widths.activations.get(s.members[0], coder.activation_bits)
        for s in sites
    ]
    every = sorted(set(bits))
    found = curves(graph, context, sites, every, samples)
    noise = {
        member: (n, float(curve[every.index(n)]))
        for site, curve, n in zip(sites, found, bits, strict=True)
        for member in site.members
    }
    own = {n.name: _own(n, noise) for n in anchors}
    total = sum(w + a for _, w, _, a in own.values()) or 1.0
    return {
        name: {
            "weight_bits": wide, "activation_bits": code, "weights_db": _decibels(w),
            "activations_db": _decibels(a), "share": round((w + a) / total, 4),
        }
        for name, (wide, w, code, a) in own.items()
    }  # fmt: skip


def _own(
    node: Node, noise: Mapping[str, tuple[int, float]]
) -> tuple[int | None, float, int | None, float]:
    """Bits and noise of a layer's weights, and of its operands together."""
    wide, weights = noise.get(node.name, (None, 0.0))
    codes = [noise[v.name] for v in node.operands if v.name in noise]
    return wide, weights, codes[0][0] if codes else None, sum(n for _, n in codes)


def _decibels(noise: float) -> float | None:
    return round(-10 * math.log10(noise), 2) if noise > 0 else None


def _inputs(layers: Sequence[Node], context: Context, prepared: Prepared) -> dict[str, Facts]:
    """Range and outlier channels of what the layers read."""
    linear = [x for x in map(Linear.of, layers) if x is not None]
    seen = {x.node.operands[0].name: ChannelStatistics(x.axis) for x in linear}
    stream(prepared.stages.real, context, list(seen.items()), "ranges of channels")
    out: dict[str, Facts] = {}
    for layer in linear:
        found = seen[layer.node.operands[0].name]
        reach: Array = np.maximum(np.abs(found.low), np.abs(found.high))
        middle = float(np.median(reach[reach > 0])) if reach.any() else 1.0
        out[layer.node.name] = {
            "low": float(found.low.min()),
            "high": float(found.high.max()),
            "outliers": round(float(reach.max()) / middle, 2),
        }
    return out
