"""How the channels of sites vary together, where layers read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...ir.coupling import Site, Sites
from ...ir.graph import Graph, Value
from ...ir.types import Array
from ..context import Context
from ..fitting.gram import Gram
from ..linear import Linear
from ..statistics.streaming import stream


@dataclass(frozen=True)
class Read:
    """A value that a layer sums over: its ``shape``, and where the channels of a site lie in it.

    The axis ``axis`` is the factors ``lengths``, of which number ``factor`` has the channels at
    ``places``.
    """

    value: str
    axis: int
    lengths: tuple[int, ...]
    factor: int
    places: tuple[int, ...]

    def vectors(self, x: Array) -> Array:
        """The channels of the site in ``x`` as ``[channels, vectors]``."""
        split = x.reshape(*x.shape[: self.axis], *self.lengths, *x.shape[self.axis + 1 :])
        rows = np.moveaxis(split, self.axis + self.factor, 0)[list(self.places)]
        return rows.reshape(len(rows), -1)


def reads(graph: Graph, sites: Sites, site: Site) -> list[Read]:
    """What the layers of ``graph`` read of a site, every value once."""
    found: dict[str, Read] = {}
    for layer in filter(None, map(Linear.of, graph.nodes)):
        value = layer.node.operands[0]
        read = _read(sites, site, value, layer.axis)
        if read is not None:
            found.setdefault(value.name, read)
    return list(found.values())


def covariances(graph: Graph, context: Context, wanted: Sequence[Sequence[Read]]) -> list[Array]:
    """Per list of values the mean of their covariances over the calibration data, float64.

    ``DataError`` without data.
    """
    seen = [[_Covariance(read) for read in reads] for reads in wanted]
    stream(graph, context, [(c.read.value, c) for one in seen for c in one], "rotate")
    return [np.mean([c.gram.covariance[0] for c in one], 0) for one in seen]


@dataclass
class _Covariance:
    """Takes samples of one value."""

    read: Read
    gram: Gram = field(init=False)

    def __post_init__(self) -> None:
        self.gram = Gram(1, len(self.read.places))

    def add(self, x: Array) -> None:
        """Count the vectors of one sample."""
        if not np.isfinite(x).all():
            raise ValueError("values that are not finite")
        self.gram.add(self.read.vectors(x)[None])


def _read(sites: Sites, site: Site, value: Value, axis: int) -> Read | None:
    factors = sites.channels(value, axis)
    for f, components in enumerate(factors):
        order = {int(c): i for i, c in enumerate(components)}
        if all(int(c) in order for c in site.channels):
            places = tuple(order[int(c)] for c in site.channels)
            return Read(value.name, axis, tuple(map(len, factors)), f, places)
    return None
