"""Which products of two activations lose too much as codes: measured on calibration data.

Attention multiplies activations by activations.  One scale serves all heads and positions of
either, a softmax turns errors into factors, and rounding to a weight's statistics cannot mend it;
and the product is small beside those with weights, so that float costs little.  Each one alone is
given codes, and the noise that comes out is compared with that of all integer layers together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from ..ir.graph import Graph, Node
from ..ir.types import Array
from .context import Context, Feed
from .plan import role
from .quantize import QuantizeStatic, coder_in


def loud_products(graph: Graph, context: Context, share: float) -> dict[str, str]:
    """Names and reasons of the products that make ``share`` of an equal part of all noise or more.

    An equal part is the whole noise at the outputs over the number of integer layers.
    """
    layers = [n for n in graph.nodes if role(n, context.kept) == "anchor"]
    products = [n for n in layers if not n.operands[1].is_constant]
    if not products:
        return {}
    trial = _Trial(graph, context, layers)
    total = trial.noise({n.name for n in layers})
    limit = share * total / len(layers)
    found = {n.name: trial.noise({n.name}) for n in products}
    return {
        name: f"its codes alone make {100 * noise / total:.0f} % of the noise at the outputs, "
        f"which {len(layers)} layers make together"
        for name, noise in found.items()
        if noise >= limit > 0
    }


class _Trial:
    """The network's outputs on the probes, to compare with those of partly quantized copies."""

    def __init__(self, graph: Graph, context: Context, layers: Sequence[Node]) -> None:
        self._graph, self._context = graph, context
        self._layers = [n.name for n in layers]
        self._coder = coder_in(context.after) or QuantizeStatic()
        self._feeds = context.probes(graph)
        self._real = _outputs(graph, context, self._feeds)

    def noise(self, coded: Collection[str]) -> float:
        """Noise to signal, summed over the outputs, with integers in the layers ``coded`` only."""
        others = {name: "on trial" for name in self._layers if name not in coded}
        quiet = replace(
            self._context,
            calibration=None,
            moments={},
            why_float={},
            chosen_float={**self._context.chosen_float, **others},
        )
        trial = self._graph.copy()
        self._coder.draft().apply(trial, quiet)
        found = _outputs(trial, self._context, self._feeds)
        return sum(map(_relative, self._real, found))


def _outputs(graph: Graph, context: Context, feeds: Sequence[Feed]) -> list[Array]:
    """Every float output, for all feeds together."""
    names = [v.name for v in graph.outputs if v.type.is_float]
    results = list(map(context.open(graph, names), feeds))
    return [np.stack([r[name] for r in results]).astype(np.float64) for name in names]


def _relative(real: Array, found: Array) -> float:
    known = np.isfinite(real)
    signal = float(np.square(real, where=known, out=np.zeros_like(real)).sum())
    apart = np.subtract(real, found, where=known, out=np.zeros_like(real))
    return float(np.square(apart).sum()) / max(signal, 1e-30)
