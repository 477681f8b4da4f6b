"""How much the outputs depend on a layer, guessed: by one pass over data, or none.

Layers that matter more are to have more bits; with every bit the noise of codes falls to a quarter.
Instead of curves that are measured (``curves``) there is one number per layer, its importance::

    noise(bits) = importance * 4**-bits

``lim``: ``1 - cos`` of the angle between what a block of layers is given and what it makes of it
(the "layer input modification" of the paper is its negative cosine).  A layer's block ends in the
first sum behind it one of whose operands does not depend on it, which is the block's input; where
there is no such sum, a layer is its own block if its result has its input's shape; where it has
not, it counts as much as the most important one.

``zscore``: one over the share of weights that are more than a standard deviation above the mean;
the fewer they are, the more important is the layer.  Needs no data.

Source: Dumitru et al., "Layer-Wise Quantization: A Pragmatic and Effective Method for Quantizing
LLMs Beyond Integer Bit-Levels", 2024 (arXiv 2406.17415), which ranks whole blocks of language
models; numbers for the program that allocates, and blocks of other networks, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from ...ir.graph import Graph, Value
from ...ir.types import Array
from ..context import Context
from ..linear import Linear
from .sites import Site

PRIORS = ("lim", "zscore")


def guessed(
    prior: str,
    graph: Graph,
    context: Context,
    sites: Sequence[Site],
    bits: Sequence[int],
    samples: int,
) -> list[Array]:
    """float64 ``[len(bits)]`` per site of weights: its noise in no particular unit."""
    places = [s.index for s in sites]
    if prior == "zscore":
        importance = np.array([_sparse(Linear(graph.nodes[i]).weights()) for i in places])
    else:
        importance = _modified(graph, context, places, samples)
    return [i * 4.0 ** -np.array(bits, float) for i in importance]


def _sparse(weights: Array) -> float:
    """One over the share of weights above the mean by more than the standard deviation."""
    spread = float(weights.std())
    above = int((weights > weights.mean() + spread).sum()) if spread > 0 else 0
    return weights.size / max(above, 1)


def _modified(graph: Graph, context: Context, layers: Sequence[int], samples: int) -> Array:
    """``1 - cos`` of what the blocks of the nodes ``layers`` read and make."""
    ends = [block(graph, index) for index in layers]
    names = sorted({v.name for pair in ends if pair is not None for v in pair})
    sums = {pair: np.zeros(3) for pair in ends if pair is not None}
    run = context.open(graph, names) if names else None
    for feed in islice(context.feeds("sensitivity lim"), samples):
        found = {} if run is None else run(feed)
        for (before, after), total in sums.items():
            x, y = (np.asarray(found[v.name], np.float64).ravel() for v in (before, after))
            total += [x @ y, x @ x, y @ y]
    known = {
        pair: 1 - float(xy / np.sqrt(xx * yy)) if xx * yy > 0 else 1.0
        for pair, (xy, xx, yy) in sums.items()
    }
    most = max(known.values(), default=1.0)
    return np.array([most if pair is None else known[pair] for pair in ends])


def block(graph: Graph, index: int) -> tuple[Value, Value] | None:
    """What the block of node ``index`` reads and makes; None where nothing can be compared."""
    layer = graph.nodes[index]
    reached = {id(layer.output)}
    for node in graph.nodes[index + 1 :]:
        rest = [v for v in node.operands if id(v) not in reached]
        if len(rest) == len(node.operands):
            continue
        reached.update(id(v) for v in node.outputs)
        if node.op.name != "Add" or len(rest) != 1 or rest[0].is_constant:
            continue
        if rest[0].shape == node.output.shape:
            return rest[0], node.output
    x = layer.operands[0]
    return (x, layer.output) if x.shape == layer.output.shape else None
