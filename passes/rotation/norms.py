"""Weights of normalisations moved into the layers behind them, so that channels can turn there.

``diag(gamma) W`` takes the place of ``W`` behind an RMSNormalization or a LayerNormalization, whose
own weight is 1 then, and ``beta W`` goes into a bias.  Both are sites like any other (`Sites`), so
packed heads, tied readers and branches are seen as there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...ir.actions import scale, shift
from ...ir.actions.scale import why_positive
from ...ir.coupling import Action, Sites
from ...ir.graph import Graph, Node, Value
from ...ir.ops.norm import LayerNormalization, RMSNormalization
from ...ir.types import Array


@dataclass
class Folded:
    """A graph with plain norms; ``kept`` says why a norm, by the name of its result, is not."""

    graph: Graph
    count: int = 0
    kept: dict[str, str] = field(default_factory=dict)


def fold_norms(graph: Graph) -> Folded:
    """A copy of ``graph`` in which weights and biases of norms are in the layers behind them."""
    kept: dict[str, str] = {}
    sites = Sites(graph, Action.SCALE)
    factor, taken = np.ones(sites.count), np.zeros(sites.count, bool)
    for node in filter(_is_norm, graph.nodes):
        why = _weight(sites, node, factor, taken)
        if why:
            kept[node.output.name] = f"its weight cannot be folded: {why}"
    work = scale(sites, factor)
    norms = [n for n in work.nodes if _is_norm(n) and n.output.name not in kept]
    for node in norms:  # 1 but for the rounding of a logarithm
        weight = node.operands[1]
        ones = work.constant(np.ones(weight.shape, weight.type.dtype), weight.name)
        work.set_inputs(node, [node.operands[0], ones, *node.operands[2:]])
    work = _without_biases(work, kept)
    return Folded(work, len(norms), kept)


def is_plain(node: Node) -> bool:
    """Whether a norm over the last axis multiplies by 1 and adds nothing."""
    weights = [v.data for v in node.operands[1:]]
    zeros = all(b is not None and not b.any() for b in weights[1:])
    return _is_norm(node) and weights[0] is not None and bool((weights[0] == 1).all()) and zeros


def _is_norm(node: Node) -> bool:
    """Whether ``node`` normalises the last axis alone, with constant weights."""
    if not isinstance(node.op, LayerNormalization | RMSNormalization):
        return False
    x = node.operands[0]
    constant = all(v.is_constant and v.type.rank == 1 for v in node.operands[1:])
    return constant and node.op.statistic(x.type.rank) == (x.type.rank - 1,)


def _weight(sites: Sites, node: Node, factor: Array, taken: Array) -> str:
    """Let ``factor`` undo a norm's weight; why not, if not."""
    weight = node.operands[1]
    gamma = np.asarray(weight.data, np.float64)
    if not gamma.all():
        return "a factor is zero"
    if (gamma == 1).all():
        return ""
    found = sites.channels(weight, 0)
    if len(found) != 1:
        return "its channels are a product of axes"
    (channels,) = found
    if why := _held(sites, channels):
        return why
    if taken[channels].any():
        return "another norm scales the same channels"
    if why := why_positive(sites, channels[gamma < 0]):
        return why
    factor[channels], taken[channels] = 1 / gamma, True
    return ""


def _without_biases(graph: Graph, kept: dict[str, str]) -> Graph:
    """The graph with biases of norms in what reads them; adds to ``kept`` where that cannot be."""
    sites = Sites(graph, Action.SHIFT)
    amount, taken = np.zeros(sites.count), np.zeros(sites.count, bool)
    biased: list[Value] = []
    for node in graph.nodes:
        if not _is_norm(node) or len(node.operands) < 3 or node.output.name in kept:
            continue
        bias = node.operands[2]
        beta = np.asarray(bias.data, np.float64)
        found = sites.channels(bias, 0)
        why = _held(sites, found[0]) if len(found) == 1 else "its channels are a product of axes"
        if not why and taken[found[0]].any():
            why = "another norm shifts the same channels"
        if beta.any() and why:
            kept[node.output.name] = f"its bias cannot be folded: {why}"
            continue
        amount[found[0]], taken[found[0]] = -beta, True
        biased.append(node.output)
    out = shift(sites, amount)
    for value in biased:
        plain = out[value.name].producer
        assert plain is not None
        out.set_inputs(plain, plain.operands[:2])
    return out


def _held(sites: Sites, channels: Array) -> str:
    """Why some of ``channels`` must stay as they are."""
    return next((s.why for s in sites.groups if s.why and np.isin(channels, s.channels).any()), "")
