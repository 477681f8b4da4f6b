"""Branches of low rank for the layers of a quantized network, fitted one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...ir.graph import Graph
from ...ir.ops.quantize import Dequantize
from ...ir.types import Array
from ..bits.knapsack import allocate
from ..codes import codes_of
from ..context import Context, Feed
from ..fitting.fit import WIDEST, Fit, Walk
from ..linear import Linear
from ..measure import weight_bytes
from ..pruning.distortion import Distortion
from ..quantize import affine
from ..rounding.weights import Rounded, weight_scales
from .branch import BITS, Branch, add_half, branch_bytes, coded_sum
from .factors import left_over, low_rank, refitted


@dataclass
class Branches:
    """The layers of ``coded`` that can have branches, and ``real``, which says what they are for.

    ``layers``: names of the results of those whose names are ``wanted``, in order.
    """

    real: Graph
    coded: Graph
    context: Context
    feeds: Sequence[Feed]
    wanted: Callable[[str], bool]

    def __post_init__(self) -> None:
        self._view = _with_constants(self.coded)
        self.layers = [
            n.output.name for n in self._view.nodes if self.wanted(n.name) and _fits(Linear.of(n))
        ]

    def within(self, share: float, most: int, samples: int) -> dict[str, int]:
        """Ranks up to ``most`` of least noise, for ``share`` of the bytes of all constants.

        A rank takes the share of its layer's noise that it takes of the energy of its results.
        """
        both = Walk(self.real, self._view, self.context, self.feeds)
        noise = Distortion(self.real, self.context, self.feeds[:samples])
        costs, losses = [], []
        for name in self.layers:
            fit = _fit(both, self._layer(self._view, name))
            left = left_over(self._missing(fit)[0], _spread(fit))[: most + 1]
            alone = self.real.copy()
            self._layer(alone, name).set(alone, fit.layer.weights(), fit.layer.bias())
            losses.append(noise.of(alone) * left)
            costs.append(np.array([branch_bytes(fit.layer, r) for r in range(len(left))], float))
            both.advance(fit.layer.node)
        ranks = allocate(costs, losses, share * weight_bytes(self.coded))
        assert ranks is not None, "no branches cost nothing"
        return dict(zip(self.layers, ranks, strict=True))

    def fitted(self, ranks: Mapping[str, int]) -> list[Branch]:
        """A branch for every layer with a rank above zero, by the results' names."""
        view, names = self._view.copy(), [n for n in self.layers if ranks[n]]
        both = Walk(self.real, view, self.context, self.feeds)
        progress, found = self.context.progress, []
        if progress is not None:
            progress.start("compensate", len(names))
        for name in names:
            layer = self._layer(view, name)
            branch = self._branch(both, layer, ranks[name])
            branch.insert(view)
            found.append(branch)
            if layer.node.output.name == name:  # it is not the end, whose name the sum took over
                both.advance(layer.node)
            if progress is not None:
                progress.advance()
        if progress is not None:
            progress.done()
        return found

    def _branch(self, both: Walk, layer: Linear, rank: int) -> Branch:
        """Fitted to what a layer of ``both.changed``, which it does not change, lacks."""
        fit, graph, name = _fit(both, layer), both.changed, layer.node.output.name
        error, offset = self._missing(fit)
        spread, mean = _spread(fit), fit.gram.mean
        groups, _, inputs, taps = layer.weights().shape
        rows = low_rank(error, spread, rank)[1]
        down = _rounded(rows.reshape(groups, -1, inputs, taps), None, 1.0)
        probe = graph.copy()
        made = add_half(probe, layer.node, layer.node.operands[0].name, down)
        low, high = _channels(both.seen(probe, made.output.name), layer.axis)
        middle = (low + high) / 2 if layer.takes_bias else np.zeros(len(low))
        reach = np.maximum(high - middle, middle - low)
        reach[reach == 0] = 1.0
        steps = (down.steps / reach).astype(np.float32).astype(np.float64)
        down = Rounded(down.codes, steps, -middle / reach if layer.takes_bias else None)
        hidden = affine(-1.0, 1.0, BITS)
        rows = down.real.reshape(rows.shape)
        up = refitted(error, spread, rows)
        bias = None
        if down.bias is not None:
            inner = np.einsum("grk,gk->gr", rows, mean) + down.bias.reshape(groups, -1)
            bias = offset - np.einsum("gor,gr->go", up, inner).ravel()
        branch = Branch(name, down, _rounded(up[..., None], bias, hidden[0]), hidden)
        if not coded_sum(graph, graph[name]):
            return branch
        probe = graph.copy()
        low, high = _channels(both.seen(probe, branch.insert(probe).name), layer.axis)
        return replace(branch, result=affine(min(low.min(), 0.0), max(high.max(), 0.0), BITS))

    def _missing(self, fit: Fit) -> tuple[Array, Array]:
        """What to add to the weights ``[groups, outputs, K]``, and to the means ``[outputs]``."""
        layer, gram = fit.layer, fit.gram
        rounded = layer.weights()
        rounded = rounded.reshape(*rounded.shape[:2], -1)
        whole = self._layer(self.real, layer.node.output.name).weights().reshape(rounded.shape)
        error = whole + fit.change(gram, whole) - rounded
        means = (gram.target - np.einsum("gok,gk->go", rounded, gram.mean)).ravel()
        bias = layer.bias()
        return error, means if bias is None else means - bias

    def _layer(self, graph: Graph, name: str) -> Linear:
        node = graph[name].producer
        assert node is not None
        return Linear(node)


def _fits(layer: Linear | None) -> bool:
    return (
        layer is not None and layer.width <= WIDEST and codes_of(layer.node.operands[0]) is not None
    )


def _fit(both: Walk, layer: Linear) -> Fit:
    fit = Fit.of(both.changed, layer)
    for x, y in both.at(fit):
        fit.add(x, y)
    return fit


def _spread(fit: Fit) -> Array:
    return fit.gram.covariance if fit.layer.takes_bias else fit.gram.second


def _rounded(weights: Array, bias: Array | None, unit: float) -> Rounded:
    """Int8 ``weights [groups, outputs, inputs, taps]`` of a layer whose input has a scale."""
    flat = weights.reshape(-1, weights.shape[2] * weights.shape[3])
    steps = weight_scales(flat, bias, unit, BITS)
    codes = np.rint(flat / steps[:, None])
    return Rounded(codes.reshape(weights.shape), steps, bias)


def _channels(arrays: Iterable[Array], axis: int) -> tuple[Array, Array]:
    """The least and the greatest of every channel, float64."""
    low, high = np.inf, -np.inf
    for array in arrays:
        rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        low, high = np.minimum(low, rows.min(1)), np.maximum(high, rows.max(1))
    return np.asarray(low, np.float64), np.asarray(high, np.float64)


def _with_constants(graph: Graph) -> Graph:
    """A copy in which integer weights and biases are the reals that they stand for."""
    view = graph.copy()
    for node in list(view.nodes):
        if isinstance(node.op, Dequantize) and node.operands[0].data is not None:
            reals = node.op.eval([node.operands[0].data])[0]
            view.replace(node.output, view.constant(reals, f"{node.output.name}.real"))
    view.prune()
    return view
