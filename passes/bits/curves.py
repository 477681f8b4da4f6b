"""How far the outputs move when one site alone has codes of so many bits: measured, on samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from ...ir.graph import Graph
from ...ir.types import Array
from ..context import Context
from ..fitting.cursor import Cursor
from ..linear import Linear
from ..pruning.distortion import Distortion
from ..quantize import affine, calibrated, insert_codes
from ..rounding.weights import WeightCodes, rounded
from .sites import WEIGHTS, Site


def curves(
    graph: Graph, context: Context, sites: Sequence[Site], bits: Sequence[int], samples: int
) -> list[Array]:
    """float64 ``[len(bits)]`` per site: noise over power at the outputs, all else in float.

    Weights are rounded by the moments of their inputs, where ``calibrate`` has learned them.  The
    graph is walked once; only what lies behind a site is computed for it.  Sites are in order.
    """
    feeds = list(islice(context.feeds("allocation of bits"), samples))
    distortion, walk = Distortion(graph, context, feeds), Cursor(graph, context, feeds)
    if context.progress is not None:
        context.progress.start("sensitivity of layers", len(sites))
    found = []
    for site in sites:
        walk.advance(site.index)
        changed = [_coded(graph, site, n, context) for n in bits]
        found.append(np.array([distortion.of(c, walk) for c in changed]))
        if context.progress is not None:
            context.progress.advance()
    if context.progress is not None:
        context.progress.done()
    return found


def _coded(graph: Graph, site: Site, bits: int, context: Context) -> Graph:
    """A copy in which the site alone has codes."""
    changed = graph.copy()
    if site.kind == WEIGHTS:
        node = changed.nodes[site.index]
        layer, moments = Linear(node), context.moments.get(node.output.name)
        how = WeightCodes(bits, "nearest" if moments is None else "gptq")
        made = rounded(layer, 1.0, how, moments)
        layer.set(changed, made.real, made.bias)
        return changed
    low, high = np.transpose([calibrated(graph[m], context, bits) for m in site.members])
    scale = affine(float(low.min(initial=0.0)), float(high.max(initial=0.0)), bits)
    for name in site.members:
        insert_codes(changed, changed[name], bits, scale)
    return changed
