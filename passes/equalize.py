"""``equalize``: scale channels between layers so that one scale per tensor suits them all.

A channel that reaches eight times as far as the others leaves those 5 of their 8 bits.  Where
nothing but homogeneous ops lies between layers, what makes the channels is divided by a factor per
channel and the readers' columns multiplied by it, which changes nothing in real numbers; what all
readers' biases can give back is taken off first.  ::

    %a = Conv(%x, W, b)  ->  %y = Conv(Relu(%a), V)
    =>
    %a = Conv(%x, W / s, b / s)  ->  %y = Conv(Relu(%a), V * s)

    %a = LayerNormalization(%x, g, b)  ->  %y = Gemm(%a, V, c)
    =>
    %a = LayerNormalization(%x, g / s, (b - z) / s)  ->  %y = Gemm(%a, V * s, c + V z)

Behind a recurrence, which ends in float anyway, a product takes the place of the rows.  Behind a
function that no factor passes (GELU, SiLU) one does where ``activations`` asks for it: in a network
of codes a function is a table of 256 entries, which a factor per channel would multiply, so it
becomes a float island there.

Solvers say which factors and shifts (``passes/equalizing``).  Diagonals do not compose: the last
one on a site is all that is left of several, so every site has one, the solver of least error of
its readers' results, measured on calibration data with the codes that follow.  Layers whose weights
lie on a grid keep it.

Does not handle: queries and keys, weights that several layers share with unlike powers (packed q,
k and v, but see ``split-layers``).
Sources: see the solvers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.errors import DataError, PreconditionError, nearest
from ..ir.graph import Graph, Node
from ..ir.ops.elementwise import Mul
from ..ir.types import Array
from ..ir.untie import tie, untie
from .base import Kind, Pass, Statistics
from .context import Context, Equalized
from .equalizing.choice import Chosen, solve_all
from .equalizing.layer_scales import LayerScales
from .equalizing.network import RECURRENCES, Network
from .equalizing.precision import Precision
from .equalizing.solvers import SOLVERS
from .linear import Linear
from .rounding.grid import grid_step

log = logging.getLogger(__name__)

BEST = "best"

ACTIVATIONS = frozenset({"Gelu", "Silu", "HardSwish", "Mish", "Tanh", "Sigmoid", "Elu", "Softplus"})
"""Functions of one number that no factor passes."""


@dataclass(frozen=True)
class Equalize(Pass):
    """Equalize ranges of channels; see the module's documentation.  Establishes ``equalized``.

    ``solvers``: names separated by commas, of which every site gets the best, or ``best``: all that
    contend, without calibration data those that need none.  ``activations``: scale what functions
    like GELU make, by a product behind them, where only layers read it.  ``DataError`` where a
    solver that is asked for by name needs data that is not there, or where a value is not finite.
    """

    solvers: str = BEST
    activations: bool = False

    name: ClassVar[str] = "equalize"
    kind: ClassVar[Kind] = Kind.EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    establishes: ClassVar[frozenset[str]] = frozenset({"equalized"})

    def __post_init__(self) -> None:
        """Refuse names of no solver."""
        for name in self._asked():
            if name not in SOLVERS:
                raise PreconditionError(
                    f"{self.name} has no solver {name!r}; {nearest(name, [BEST, *SOLVERS])}"
                )

    def draft(self) -> None:
        """Nothing: it leaves shapes alone."""

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Solve for all sites, then rewrite the layers."""
        names, note = self._usable(context)
        work = graph.copy()
        untie(work)
        products = _add_products(work, self.activations)
        free = LayerScales(work, on_grid, products)
        network = Network.of(free, Precision.of(context.after))
        if not network.readers:
            return {"rewrites": 0, "channels": 0}
        if context.calibration is not None:
            network.observe(work, context)
        chosen = solve_all(network, names)
        scale, shift = network.state.scale, network.state.shift
        changed = free.applied(scale, shift)
        grown = _drop_ones(changed, products)
        tie(changed)
        graph.become(changed)
        context.equalized = [_facts(one) for one in chosen]
        moved = (scale != 1) | (shift != 0)
        layers = [x for x in map(Linear.of, work.nodes) if x is not None]
        return {
            "rewrites": grown + sum(_changes(free, layer, moved) for layer in layers),
            "channels": int(moved.sum()),
            "shifted": int((shift != 0).sum()),
            **_gain(chosen),
            **note,
        }

    def _asked(self) -> list[str]:
        """The solvers asked for by name; none for ``best``."""
        names = [name.strip() for name in self.solvers.split(",")]
        return [] if names == [BEST] else names

    def _usable(self, context: Context) -> tuple[list[str], dict[str, str]]:
        """The solvers to run, and what there is to say about it."""
        names = self._asked() or [name for name in SOLVERS if SOLVERS[name].contends]
        if context.calibration is not None:
            return names, {}
        hungry = [name for name in names if SOLVERS[name].needs_data]
        if hungry and self._asked():
            free = ", ".join(n for n in SOLVERS if not SOLVERS[n].needs_data)
            raise DataError(
                f"solver {hungry[0]!r} needs calibration data; give --calib DATA, or take a "
                f"solver that needs none ({free})"
            )
        left = [name for name in names if name not in hungry]
        if hungry:
            log.warning("equalize: no calibration data, so by weights alone (%s)", ", ".join(left))
            return left, {"without_data": ", ".join(left)}
        return left, {}


def _gain(chosen: Sequence[Chosen]) -> dict[str, float]:
    """How far the measured errors of all sites fall together, in dB."""
    before = sum(one.before for one in chosen if one.before is not None)
    after = sum(one.after for one in chosen if one.after is not None)
    measured = before > 0 and after > 0
    return {"gain_db": round(float(10 * np.log10(before / after)), 2)} if measured else {}


def _facts(one: Chosen) -> Equalized:
    return Equalized(
        one.site.name,
        one.solver,
        len(one.site.channels),
        [r.name for r in one.site.readers],
        one.before,
        one.after,
    )


def on_grid(layer: Linear) -> bool:
    """Whether weights come from training with quantization, and would lose by any factor."""
    return grid_step(layer.weights()) is not None


def _changes(free: LayerScales, layer: Linear, moved: Array) -> bool:
    """Whether a layer's rows or columns change."""
    name = layer.node.output.name
    return bool(moved[free.outputs[name]].any() or moved[free.inputs[name]].any())


def _add_products(graph: Graph, activations: bool) -> list[str]:
    """A product with ones behind what stays float: a weight that can take up factors."""
    names = []
    for node in list(graph.nodes):
        value = node.output if node.outputs else None
        readers = [] if value is None else list(dict.fromkeys(value.uses))
        if value is None or not readers or not _takes_product(node, readers, activations):
            continue
        ones = np.ones(value.shape[-1], value.type.dtype)
        inputs = [value, graph.constant(ones, f"{value.name}.factors")]
        first = min(readers, key=graph.index)
        product = graph.add(Mul(), inputs, names=[f"{value.name}.scaled"], before=first).output
        for reader in readers:
            graph.set_inputs(reader, [product if v is value else v for v in reader.inputs])
        names.append(product.name)
    return names


def _takes_product(node: Node, readers: Sequence[Node], activations: bool) -> bool:
    """Whether a product may stand behind a node."""
    if node.op.name in RECURRENCES:
        return True
    layers = [Linear.of(n) for n in readers]
    return (
        activations
        and node.op.name in ACTIVATIONS
        and all(x is not None and not x.is_conv for x in layers)
    )


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
