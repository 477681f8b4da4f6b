"""Weights in blocks of a number format, rounded layer after layer by what the layers really read.

As ``feedback`` does for one step per output: a layer is fitted to the float network's result on the
inputs that the changed network gives it, each group takes the step of least error by the second
moments of its inputs, then the layer is rounded by all of them, and steps and codes are put right
by each other.

Groups lie along the inputs that a result sums over, or along the outputs within one input channel:
inputs that are large, or large weights of single inputs, then share a step with nothing else.

Sources: Frantar et al., "GPTQ", 2022, sections 3 and 4 (groups; their steps are fixed beforehand,
so that columns can go in any order); Heo et al., "Rethinking Channel Dimensions to Isolate Outliers
for Low-bit Weight Quantization of LLMs", 2023 (AdaDim: the axis of groups, layer by layer).
Fitting, steps of either sign, exponents by their losses, and steps solved for again are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...ir.formats import Format
from ...ir.graph import Graph
from ...ir.types import Array
from ..blocks.slots import Slot
from ..context import Context, Feed
from ..fitting.fit import WIDEST, Fit, Walk
from ..linear import Linear
from .curvature import curvatures, noticed, rounded_in_turn
from .elements import Elements
from .group_steps import refitted, searched
from .second_order import BEST, second_order, trusted

SWEEPS = 3


@dataclass(frozen=True)
class Packed:
    """A layer's weights as packed bytes along the axis of ``slot``; ``bias`` ``[outputs]``.

    ``lost``: the energy of what its results, or the network's outputs, lack by rounding.
    """

    slot: Slot
    data: Array
    bias: Array | None
    lost: float


def can_round(slot: Slot, readers: int) -> bool:
    """Whether weights, which ``readers`` nodes read, can be rounded by what they multiply."""
    layer = Linear.of(slot.node)
    return (
        layer is not None
        and readers == 1
        and slot.operand == 1
        and layer.width <= WIDEST
        and Elements.of(slot.format) is not None
    )


def rounded(
    real: Graph, graph: Graph, slots: Sequence[Slot], context: Context, feeds: Sequence[Feed],
    both_axes: bool = False, curvature: bool = False,
) -> Mapping[str, Packed]:  # fmt: skip
    """The weights of ``slots`` of ``graph``, in its order, by their layers' results.

    ``both_axes``: groups may lie along the outputs, too, where that loses less in no more bytes.
    ``curvature``: errors count by what the network's outputs notice of them.
    ``real`` is the float network, ``graph`` the one whose activations are encoded already.
    """
    changed = graph.copy()
    by_name = {slot.node.output.name: slot for slot in slots}
    notice = curvatures(real, by_name, context, feeds) if curvature else {}
    both = Walk(real, changed, context, feeds)
    found = {}
    for layer in _layers(changed, by_name):
        fit = replace(Fit.of(changed, layer), run=-(-len(feeds) // 4))
        for x, y in both.at(fit):
            fit.add(x, y)
        name = layer.node.output.name
        slot = by_name[name]
        sides = [slot, *([across(slot)] if both_axes else [])]
        trials = [_rounded(fit, s, notice.get(name)) for s in sides if s.bytes <= slot.bytes]
        found[name], weights = min(trials, key=lambda trial: trial[0].lost)
        layer.set(changed, weights, found[name].bias)
        both.advance(layer.node)
        if context.progress is not None:
            context.progress.advance()
    return found


def across(slot: Slot) -> Slot:
    """The same weights with blocks along the outputs, within one input channel (and tap)."""
    return replace(slot, axis=0 if slot.node.op.name == "Conv" else 1, rows=False)


def _layers(graph: Graph, wanted: Mapping[str, Slot]) -> Iterator[Linear]:
    for node in list(graph.nodes):
        layer = Linear.of(node) if node.output.name in wanted else None
        if layer is not None:
            yield layer


def _rounded(fit: Fit, slot: Slot, curvature: Array | None) -> tuple[Packed, Array]:
    """The packed weights, and the numbers that they stand for."""
    elements = Elements.of(slot.format)
    assert elements is not None
    layer, gram = fit.layer, fit.gram
    weights = layer.weights()
    flat = weights.reshape(*weights.shape[:2], -1)
    wanted = flat + fit.change(gram, flat)
    spread = gram.covariance if layer.takes_bias else gram.second
    trust = trusted(spread, fit.evidence)
    groups = None
    if slot != across(slot):
        groups = _groups(slot, weights.shape, elements.format)

    def rounded(rows: Array) -> tuple[Array, Array]:
        steps = searched(rows, spread, groups, elements)
        codes = second_order(rows, steps, spread, fit.evidence, elements.nearest, BEST, SWEEPS)
        if groups is None:
            return codes, steps
        return refitted(rows, codes, steps, trust, groups, elements)

    if groups is not None and curvature is not None:
        codes, steps = rounded_in_turn(wanted, spread, curvature, rounded)
    else:
        codes, steps = rounded(wanted)
    found = codes * steps
    bias = None
    if layer.takes_bias:
        bias = (gram.target - np.einsum("gok,gk->go", found, gram.mean)).ravel()
    parts = (layer.shaped(a.reshape(weights.shape)) for a in (codes, steps))
    lost = noticed(found - wanted, spread, curvature)
    return Packed(slot, _packed(elements, slot, *parts), bias, lost), found.reshape(weights.shape)


def _groups(slot: Slot, shape: tuple[int, ...], f: Format) -> Array:
    """The group of every element of a row, int ``[inputs * taps]``."""
    inputs, taps = shape[2:]
    if slot.rows:
        return np.arange(inputs * taps) // f.size(inputs * taps)
    channel, tap = np.divmod(np.arange(inputs * taps), taps)
    return np.asarray(channel // f.size(inputs) * taps + tap)


def _packed(elements: Elements, slot: Slot, codes: Array, steps: Array) -> Array:
    """Bytes of elements and steps in the layout of the weights."""
    f, shape = elements.format, slot.value.shape
    flat = (*shape[: slot.axis], slot.length) if slot.rows else shape
    blocks = (f.blocks(slot.length), f.size(slot.length))
    pad = [(0, 0)] * (len(flat) - 1) + [(0, f.padding(slot.length))]

    def cut(x: Array, mode: str) -> Array:
        rows = np.moveaxis(x.reshape(flat), slot.axis, -1)
        rows = np.pad(rows, pad, mode)  # type: ignore[call-overload]
        return np.asarray(rows.reshape(*rows.shape[:-1], *blocks))

    encoded = elements.encoded(cut(codes, "constant"), cut(steps, "edge")[..., 0], slot.length)
    return np.moveaxis(f.pack(encoded), -1, slot.axis)
