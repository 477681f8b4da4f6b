"""Weights rounded layer after layer, each to make up for what the layers before it lost.

A layer is first fitted to the float network's result on the inputs that the quantized network
really gives it (``fit``); its steps are those of least error by the second moments of these inputs;
then it is rounded by them (``second_order``), and its bias takes what is missing on average.

Sources: Frantar et al., "GPTQ", 2022, section 3 (the rounding); Nagel et al., "Up or Down?", 2020,
section 3.3, and Li et al., "GPTAQ", 2025 (the target is the float network's result for inputs of
the quantized one).  Fitting before rounding with a damping judged on unseen samples, and targets
less the shortcut, are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...ir.graph import Graph
from ...ir.types import Array
from ..context import Context, Feed
from ..fitting.fit import WIDEST, Fit, Walk
from ..linear import Linear
from .grid import grid_step
from .second_order import second_order
from .weights import Rounded, WeightCodes, input_scale, weight_scales

SHARES = np.linspace(0.4, 1.0, 25)
"""Of a row's reach that its codes may span: narrower steps for all but its largest weights."""


def with_feedback(
    real: Graph, coded: Graph, wanted: Mapping[str, WeightCodes], context: Context,
    feeds: Sequence[Feed],
) -> dict[str, Rounded]:  # fmt: skip
    """The layers ``wanted`` of ``coded``, whose activations are codes, by their results' names.

    Left out are layers that sum over too much (``WIDEST``), and those whose weights lie on a grid
    that 8 bits hold exactly.
    """
    changed = coded.copy()
    both = Walk(real, changed, context, feeds)
    layers = [
        x for x in map(Linear.of, changed.nodes)
        if x is not None and (how := wanted.get(x.node.output.name)) is not None
        and _fits(x, how)
    ]  # fmt: skip
    if context.progress is not None:
        context.progress.start("round weights", len(layers))
    found = {}
    for layer in layers:
        fit, name = Fit.of(changed, layer), layer.node.output.name
        for x, y in both.at(fit):
            fit.add(x, y)
        found[name] = made = _rounded(fit, wanted[name])
        layer.set(changed, made.real, made.bias)
        both.advance(layer.node)
        if context.progress is not None:
            context.progress.advance()
    if context.progress is not None:
        context.progress.done()
    return found


def _fits(layer: Linear, how: WeightCodes) -> bool:
    if layer.width > WIDEST:
        return False
    rows = layer.weights().reshape(-1, layer.width)
    return how.bits < 8 or any(grid_step(row) is None for row in rows)


def _rounded(fit: Fit, how: WeightCodes) -> Rounded:
    layer, gram = fit.layer, fit.gram
    weights = layer.weights()
    flat = weights.reshape(*weights.shape[:2], -1)
    wanted = flat + fit.change(gram, flat)
    spread = gram.covariance if layer.takes_bias else gram.second
    rows = wanted.reshape(-1, wanted.shape[-1])
    scales = weight_scales(rows, layer.bias(), input_scale(layer.node), how.bits)
    steps = _narrowed(wanted, scales.reshape(wanted.shape[:2]), spread, how.top)
    codes = second_order(wanted, steps, spread, fit.evidence, how.top, how.order)
    bias = None
    if layer.takes_bias:
        means = np.einsum("gok,gk->go", codes * steps[..., None], gram.mean)
        bias = (gram.target - means).ravel()
    return Rounded(codes.reshape(weights.shape), steps.ravel(), bias)


def _narrowed(rows: Array, steps: Array, spread: Array, top: int) -> Array:
    """Of ``steps [groups, outputs]`` the shares of least error of the results, exact in float32."""
    best, least = steps, np.full(steps.shape, np.inf)
    for share in SHARES:
        trial = (steps * share).astype(np.float32).astype(np.float64)
        codes = np.clip(np.rint(rows / trial[..., None]), -top, top)
        error = codes * trial[..., None] - rows
        lost = np.einsum("gok,gok->go", error @ spread, error)
        best, least = np.where(lost < least, trial, best), np.minimum(lost, least)
    return np.asarray(best)
