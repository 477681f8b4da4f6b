"""Rotations at run time, where no weights can turn what a layer reads.

A `Hadamard` in front of a layer spreads its input's channels; its weights are turned back.  Behind
a selective scan, whose channels differ most, its gate (else a product) first divides each channel
by a factor ``s``, and the columns behind it are multiplied.  Once channels are spread, the noise of
codes grows with the sum of all ``(x / s)^2``, and what comes of it with the sum of all
``(s w)^2``: their product is least at ``s^2 = rms(x) / norm(w)`` (by Cauchy and Schwarz).

Sources: Ashkboos et al., "QuaRot", 2024, section 4 (R4); Xu et al., "MambaQuant", 2025, section 4.2
(smooth-fused rotation).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...ir.actions import mix, scale
from ...ir.coupling import Action, Sites
from ...ir.graph import Graph, Node, Value
from ...ir.hadamard import split
from ...ir.ops.elementwise import Mul
from ...ir.ops.selective_scan import GATE, SLOPE
from ...ir.types import Array
from ..context import Context
from ..linear import Linear
from ..statistics.streaming import ChannelStatistics, stream

CHOICES = ("none", "scans", "all")
SCAN = "SelectiveScan"
ELEMENTWISE = frozenset({"Add", "Mul", "Identity"})
"""What may lie between a scan and the layer that reads it."""

LEAST = 16
"""Fewer channels have no outliers worth a product at run time."""

FLOOR = 1e-3
"""No channel is taken to be smaller than this share of the largest."""


def layers_to_mix(graph: Graph, choice: str, turned: Iterable[str]) -> list[Node]:
    """The layers in front of which a Hadamard is to stand.

    ``choice``: ``scans`` (those that read a selective scan) or ``all`` whose input is none of the
    values ``turned`` by weights.
    """
    if choice == "none":
        return []
    done, found = set(turned), []
    for layer in filter(None, map(Linear.of, graph.nodes)):
        x = layer.node.operands[0]
        fits = not layer.is_conv and x.shape[-1] >= LEAST and split(x.shape[-1]) is not None
        if fits and x.name not in done and (choice == "all" or behind_scan(x) is not None):
            found.append(layer.node)
    return found


def behind_scan(x: Value) -> Node | None:
    """The selective scan from which elementwise ops lead to ``x``, if any."""
    node = x.producer
    if node is None or node.op.name == SCAN:
        return node
    if node.op.name not in ELEMENTWISE:
        return None
    found = (behind_scan(v) for v in node.operands)
    return next((scan for scan in found if scan is not None), None)


def mix_layers(graph: Graph, context: Context, layers: list[Node]) -> Graph:
    """A copy with a Hadamard in front of ``layers``; behind scans channels are scaled before.

    Their weights are noted in ``context.rotated``.
    """
    names = [n.output.name for n in layers]
    work = _smoothed(graph, context, [n for n in layers if behind_scan(n.operands[0]) is not None])
    for name in names:
        node = work[name].producer
        assert node is not None
        mix(work, node)
        context.rotated.add((node.operands[1].name, 0))
    return work


def _smoothed(graph: Graph, context: Context, layers: list[Node]) -> Graph:
    """A copy in which products scale what ``layers`` read, and these undo it."""
    work = graph.copy()
    seen = {n.operands[0].name: ChannelStatistics(n.operands[0].type.rank - 1) for n in layers}
    if not seen:
        return work
    stream(graph, context, list(seen.items()), "rotate")
    gated = _with_slopes(work, list(seen))
    scaled = {name: work[name] if name in gated else _product(work, work[name]) for name in seen}
    sites = Sites(work, Action.SCALE)
    factor = np.ones(sites.count)
    for name, value in scaled.items():
        readers = [n for n in layers if n.operands[0].name == name]
        (channels,) = sites.channels(value, value.type.rank - 1)
        factor[channels] = 1 / smoothing(seen[name].square, readers)
    return scale(sites, factor)


def _with_slopes(graph: Graph, names: list[str]) -> set[str]:
    """Let gates of scans take up factors by a slope, where their own layer can; of which results.

    ``silu(z)`` is ``s * g * sigmoid(s * g)`` for ``g = z / s``: the scan needs no product then.
    """
    found = [n for n in (graph[name].producer for name in names) if n is not None and _gated(n)]
    before = [n.inputs for n in found]
    for node in found:
        ones = np.ones(node.output.shape[-1], node.output.type.dtype)
        slope = graph.constant(ones, f"{node.output.name}.slope")
        rest = [None] * (SLOPE - len(node.inputs))
        graph.set_inputs(node, [*node.inputs, *rest, slope])
    sites = Sites(graph, Action.SCALE)
    held = np.zeros(sites.count, bool)
    for site in sites.groups:
        held[site.channels] = bool(site.why)
    kept = set()
    for node, inputs in zip(found, before, strict=True):
        if any(held[c].any() for c in sites.channels(node.output, node.output.type.rank - 1)):
            graph.set_inputs(node, inputs)
        else:
            kept.add(node.output.name)
    return kept


def _gated(node: Node) -> bool:
    """Whether a scan has a gate without a slope."""
    return (
        node.op.name == SCAN
        and len(node.inputs) in range(GATE + 1, SLOPE + 1)
        and (node.inputs[GATE] is not None)
    )


def smoothing(square: Array, readers: list[Node]) -> Array:
    """Per channel the factor of least noise, for its mean square; their product is 1."""
    weights = np.concatenate([np.asarray(n.operands[1].data, np.float64) for n in readers], 1)
    energy = np.square(weights).sum(1)
    size, weight = (np.sqrt(np.maximum(a, FLOOR**2 * a.max())) for a in (square, energy))
    if not (size.any() and weight.any()):
        return np.ones(len(size))
    s = np.sqrt(size / weight)
    return np.asarray(s / np.exp(np.log(s).mean()))


def _product(graph: Graph, value: Value) -> Value:
    """A product with ones behind ``value``, for all that read it."""
    readers = list(dict.fromkeys(value.uses))
    ones = graph.constant(np.ones(value.shape[-1], value.type.dtype), f"{value.name}.factors")
    first = min(readers, key=graph.index)
    made = graph.add(Mul(), [value, ones], names=[f"{value.name}.scaled"], before=first).output
    for reader in readers:
        graph.set_inputs(reader, [made if v is value else v for v in reader.inputs])
    return made
