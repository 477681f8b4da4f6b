"""``equalize``: scale channels between layers so that one scale per tensor suits them all.

A channel that reaches eight times as far as the others leaves those 5 of their 8 bits.  Where
nothing but homogeneous ops lies between layers, the producers' rows are divided by a factor per
channel and the readers' columns multiplied by it, which changes nothing in real numbers.  ::

    %a = Conv(%x, W, b)  ->  %y = Conv(Relu(%a), V)
    =>
    %a = Conv(%x, W / s, b / s)  ->  %y = Conv(Relu(%a), V * s)

Behind an op that stays float (``FLOAT``) a product takes the place of the rows.

The factors minimize the predicted error of the readers' results, relative to their power:
rounding of activations (one step per tensor, times the squared weights) plus rounding of weights
(one step per output channel, times the variance of the inputs).  Depthwise readers absorb factors
for free; for others ``s = range**a / weight**b`` is searched over ``a`` and ``b``, channels of the
same producers together, and where tensors are joined a common factor too.  Layers whose weights
lie on a grid keep it.

Sources: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019, section 4.1 (the rewrite); Xiao et al., "SmoothQuant", 2023, section 4 (the exponent).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph
from ..ir.ops.elementwise import Mul
from ..ir.types import Array
from ..ir.untie import tie, untie
from .base import Kind, Pass, Statistics
from .context import Context
from .grid import grid_step
from .layer_scales import PINNED, LayerScales
from .linear import Linear
from .streaming import ChannelStatistics, stream

EXPONENTS = np.linspace(0.0, 0.5, 6)
"""Up to the square root: ranges made fully equal would leave no channel any room for values that
lie beyond the calibrated ones."""

JOINT = 2.0 ** np.arange(-3.0, 3.5, 0.5)
SWEEPS = 2
LEAST = 1 / 32
"""No channel is taken to reach less than this share of the widest; calibration may miss much."""

STEPS, WEIGHT_STEPS = 255, 127

COHERENCE = 4.0
"""Errors of weights move whole maps, errors of codes average out: what the former weigh more."""

WORTH = 1 - 1e-3
"""Share of the predicted error that other factors must stay below to be taken."""


FLOAT = frozenset({"SelectiveScan"})
"""Ops without an integer form that end in float anyway: a product behind them costs next to
nothing, and takes up factors of their last axis."""


@dataclass(frozen=True)
class Equalize(Pass):
    """Equalize ranges of channels; see the module's documentation.  Establishes ``equalized``.

    Raises ``DataError`` without calibration data: ranges guessed from noise or from the weights
    alone made some networks of the zoo worse.
    """

    name: ClassVar[str] = "equalize"
    kind: ClassVar[Kind] = Kind.EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    establishes: ClassVar[frozenset[str]] = frozenset({"equalized"})

    def draft(self) -> None:
        """Nothing: it leaves shapes alone."""

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Solve for all classes of channels, then rewrite the layers."""
        work = graph.copy()
        untie(work)
        products = _add_products(work)
        free = LayerScales(work, on_grid, products)
        layers = [x for x in map(Linear.of, work.nodes) if x is not None]
        readers = [x for x in layers if free.inputs[x.node.output.name].any()]
        if not readers:
            return {"rewrites": 0, "channels": 0}
        seen = {x.node.operands[0].name: ChannelStatistics(x.axis) for x in readers}
        stream(work, context, list(seen.items()), "equalize")
        factors, gain = solve(free, [_Reader.of(x, free, seen) for x in readers])
        scaled = free.applied(factors)
        changed = _drop_ones(scaled, products)
        tie(scaled)
        graph.become(scaled)
        return {
            "rewrites": changed + sum(_changes(free, layer, factors) for layer in layers),
            "channels": int((factors != 1).sum()),
            "gain_db": round(gain, 2),
        }


def on_grid(layer: Linear) -> bool:
    """Whether weights come from training with quantization, and would lose by any factor."""
    return grid_step(layer.weights()) is not None


def _changes(free: LayerScales, layer: Linear, factors: Array) -> bool:
    """Whether a layer's rows are divided or its columns multiplied."""
    name = layer.node.output.name
    return bool((factors[free.outputs[name]] != 1).any() or (factors[free.inputs[name]] != 1).any())


def _add_products(graph: Graph) -> list[str]:
    """A product with ones behind every op that stays float: a weight that can take up factors."""
    names = []
    for node in [n for n in graph.nodes if n.op.name in FLOAT]:
        value = node.output
        readers = list(dict.fromkeys(value.uses))
        if not readers:
            continue
        ones = np.ones(value.shape[-1], value.type.dtype)
        inputs = [value, graph.constant(ones, f"{value.name}.factors")]
        first = min(readers, key=graph.index)
        product = graph.add(Mul(), inputs, names=[f"{value.name}.scaled"], before=first).output
        for reader in readers:
            graph.set_inputs(reader, [product if v is value else v for v in reader.inputs])
        names.append(product.name)
    return names


def _drop_ones(graph: Graph, products: list[str]) -> int:
    """Take away the products that took up nothing; how many took up something."""
    changed = 0
    for product in map(graph.__getitem__, products):
        assert product.producer is not None
        value, factors = product.producer.operands
        if (np.asarray(factors.data) == 1).all():
            graph.replace(product, value)
        else:
            changed += 1
    graph.prune()
    return changed


@dataclass
class _Reader:
    """What one layer's error depends on; arrays per input channel unless said otherwise."""

    name: str
    classes: Array
    low: Array
    high: Array
    variance: Array
    energy: Array  # squared weights, summed over outputs and taps
    reach: Array  # greatest weight over taps [groups, outputs, inputs]
    taps: int
    power: float

    @staticmethod
    def of(layer: Linear, free: LayerScales, seen: dict[str, ChannelStatistics]) -> _Reader:
        w, x = layer.weights(), seen[layer.node.operands[0].name]
        energy = np.square(w).sum((1, 3)).ravel()
        return _Reader(
            layer.node.output.name,
            free.inputs[layer.node.output.name], np.minimum(x.low, 0), np.maximum(x.high, 0),
            x.variance, energy, np.abs(w).max(3), w.shape[3],
            max(float((energy * x.square).sum()), 1e-30),
        )  # fmt: skip

    def error(self, s: Array) -> float:
        """Predicted relative error of the results for factors per class."""
        own = s[self.classes]
        step = ((self.high / own).max() - (self.low / own).min()) / STEPS
        total = step**2 / 12 * float((self.energy * np.square(own)).sum())
        groups, _, inputs = self.reach.shape
        if inputs > 1:
            columns = own.reshape(groups, 1, inputs)
            weight_step = (self.reach * columns).max(2) / WEIGHT_STEPS
            spread = (self.variance.reshape(columns.shape) / columns**2).sum(2)
            total += float((np.square(weight_step) * spread).sum()) * self.taps / 12 * COHERENCE
        return float(total / self.power)


def solve(free: LayerScales, readers: list[_Reader]) -> tuple[Array, float]:
    """Factor per class, and how far the predicted error falls, in dB."""
    s = np.ones(free.count)
    near: dict[int, list[_Reader]] = {}
    for reader in readers:
        for i in np.unique(reader.classes):
            near.setdefault(int(i), []).append(reader)
    before = sum(r.error(s) for r in readers)
    blocks = _blocks(free)
    for _ in range(SWEEPS):
        for block in blocks:
            around = _distinct(r for i in block for r in near.get(int(i), ()))
            if around:
                s[block] *= _best(s, block, around)
    after = sum(r.error(s) for r in readers)
    return s, float(10 * np.log10(before / after)) if after > 0 else 0.0


def _blocks(free: LayerScales) -> list[Array]:
    """Free classes by the set of layers that make them."""
    makers: dict[int, list[str]] = {}
    for name, classes in free.outputs.items():
        for i in np.unique(classes):
            if i != PINNED:
                makers.setdefault(int(i), []).append(name)
    together: dict[tuple[str, ...], list[int]] = {}
    for i, names in makers.items():
        together.setdefault(tuple(names), []).append(i)
    return [np.array(block) for block in together.values()]


def _distinct(readers: Iterable[_Reader]) -> list[_Reader]:
    return list({r.name: r for r in readers}.values())


def _best(s: Array, block: Array, around: list[_Reader]) -> Array:
    """The multiple of ``s[block]`` of least predicted error; ones where nothing is better."""
    reach, weight = np.zeros(len(s)), np.zeros(len(s))
    for r in around:
        np.maximum.at(reach, r.classes, np.maximum(r.high, -r.low) / s[r.classes])
        if r.reach.shape[2] > 1:
            np.maximum.at(weight, r.classes, r.reach.max(1).ravel() * s[r.classes])
    reach, weight = reach[block], weight[block]
    if not reach.any():
        return np.ones(len(block))
    reach = np.maximum(reach, reach.max() * LEAST)
    weight = np.maximum(weight, weight.max() * LEAST) if weight.any() else np.ones(len(block))
    alone = all(np.isin(r.classes, block).all() for r in around)
    trial = s.copy()

    def cost(factors: Array) -> float:
        trial[block] = s[block] * factors
        return sum(r.error(trial) for r in around)

    best, least = np.ones(len(block)), cost(np.ones(len(block)))
    for a in EXPONENTS:
        for b in EXPONENTS[::2] if (weight != weight[0]).any() else (0.0,):
            shape = reach**a / weight**b
            shape /= np.exp(np.log(shape).mean())
            for k in (1.0,) if alone else JOINT:
                if (now := cost(shape * k)) < least * WORTH:
                    best, least = shape * k, now
    return best
