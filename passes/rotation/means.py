"""LayerNormalization as RMSNormalization: the mean is taken off where a stream is written.

``LayerNorm(x) = RMSNorm(x - mean(x))``, and what every layer, embedding and bias writes can lose
its own mean beforehand: the residual stream then has none, and turns like one of RMS norms.  That
needs a stream that nothing but norms reads.

Source: Ashkboos et al., "SliceGPT", 2024, section 3.1.
"""

from __future__ import annotations

import numpy as np

from ...ir.coupling import Action, Site, Sites
from ...ir.graph import Graph, Node, Value
from ...ir.ops.norm import LayerNormalization, RMSNormalization
from ..linear import Linear
from .norms import is_plain

KEEPS = frozenset({
    "Add", "Sub", "Neg", "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice",
    "Split", "Concat", "Gather", "Expand", "Tile", "ReduceMean", "ReduceSum", "GlobalAveragePool",
})  # fmt: skip
"""Ops that make channels without a mean of such; which axes they work on the sites tell."""


def bake_means(graph: Graph, kept: dict[str, str]) -> int:
    """Turn plain LayerNormalizations into RMSNormalizations in place; how many.

    ``kept`` gets the reason where that cannot be, by the name of a norm's result.
    """
    sites = Sites(graph, Action.ROTATE)
    streams: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if isinstance(node.op, LayerNormalization) and node.output.name not in kept:
            site = _site(sites, node.operands[0])
            if site is None:
                kept[node.output.name] = "its channels are a product of axes"
            else:
                streams.setdefault(sites.groups.index(site), []).append(node)
    baked = 0
    for number, norms in streams.items():
        site = sites.groups[number]
        if why := _obstacle(graph, site):
            kept.update((n.output.name, why) for n in norms)
            continue
        for place in [p for p in site.places if p.value.is_constant]:
            data = np.asarray(place.value.data)
            centred = data - data.mean(place.axis, keepdims=True, dtype=np.float64)
            graph.assign(place.value, centred.astype(data.dtype))
        for node in norms:
            assert isinstance(node.op, LayerNormalization)
            op = RMSNormalization(node.op.axis, node.op.epsilon)
            made = graph.add(op, node.operands[:2], names=[f"{node.output.name}.rms"], before=node)
            made.origin = node.provenance
            graph.replace(node.output, made.output)
            graph.remove(node)
        baked += len(norms)
    return baked


def _site(sites: Sites, x: Value) -> Site | None:
    """The site of all channels of the last axis, if they are one."""
    factors = sites.channels(x, x.type.rank - 1)
    if len(factors) != 1:
        return None
    found = [s for s in sites.groups if np.isin(factors[0], s.channels).any()]
    return found[0] if len(found) == 1 and len(found[0]) == len(factors[0]) else None


def _obstacle(graph: Graph, site: Site) -> str:
    """What keeps a stream's mean from being taken off where it is written."""
    inside = {(p.value.name, p.axis) for p in site.places if p.sole}
    names = {name for name, _ in inside}
    if any(not p.sole for p in site.places):
        return "its channels are a product of axes"
    for value in dict.fromkeys(p.value for p in site.places):
        if value.is_constant:
            continue
        if graph.is_output(value):
            return f"%{value.name} is an output of the network"
        if not _made(value, names):
            return f"%{value.name} has a mean that no weight makes"
        for user in value.uses:
            if not _passes(user, value, names):
                what = "keeps its weight" if _is_layer_norm(user) else "reads the mean"
                return f"{user.op.name} {user.name!r}, which reads %{value.name}, {what}"
    return ""


def _made(value: Value, names: set[str]) -> bool:
    """Whether a value's mean comes from constants of the stream alone."""
    node = value.producer
    if node is None:
        return False
    if node.op.name in KEEPS:
        data = node.operands[:1] if node.op.name == "Gather" else node.operands
        return all(v.name in names or not v.type.is_float for v in data)
    weights = node.operands[1:]
    return Linear.of(node) is not None and all(v.name in names for v in weights)


def _passes(user: Node, value: Value, names: set[str]) -> bool:
    """Whether a reader either normalises the stream plainly or is a part of it."""
    if _is_layer_norm(user):
        return is_plain(user) and user.operands[0] is value
    return user.op.name in KEEPS and all(v.name in names for v in user.outputs)


def _is_layer_norm(node: Node) -> bool:
    return isinstance(node.op, LayerNormalization)
