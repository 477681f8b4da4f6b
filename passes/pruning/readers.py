"""Layers that sum over coupled channels, and which of their columns belong to which channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...ir.coupling import ChannelGroup, Coupling
from ...ir.graph import Graph
from ...ir.types import Array
from ..linear import Linear


@dataclass(frozen=True)
class Reader:
    """A layer with constant weights of its own.

    ``elements``: per factor of its input's channel axis the component of every input channel,
    int64 ``[factors, channels]``.
    """

    layer: Linear
    elements: Array

    @property
    def name(self) -> str:
        """The name of the layer's result."""
        return self.layer.node.output.name

    def inputs(self, component: int) -> Array:
        """The input channels that are gone when a component is."""
        return np.flatnonzero((self.elements == component).any(0))

    def dropped(self, gone: Array) -> Array:
        """bool ``[channels]``: the input channels that go with the components ``gone``."""
        return np.asarray(gone[self.elements].any(0))


def readers(coupling: Coupling) -> list[Reader]:
    """The layers of the analysed graph that sum over channels and own their weights."""
    found = []
    for contraction in coupling.relations.contractions:
        layer = own_layer(contraction.node)
        value, axis = contraction.axis
        if layer is None or contraction.operand != 0 or axis != layer.axis:
            continue
        factors = coupling.channels(value, axis)
        grid = np.meshgrid(*factors, indexing="ij")
        found.append(Reader(layer, np.array([g.ravel() for g in grid])))
    return found


def own_layer(node: object) -> Linear | None:
    """The layer that a node is, if nothing else uses its weights."""
    layer = Linear.of(node)  # type: ignore[arg-type]
    if layer is None or any(len(v.uses) > 1 for v in layer.node.operands[1:]):
        return None
    return layer


def layers(graph: Graph) -> Iterator[Linear]:
    """All layers of a graph that own their weights, in order."""
    for node in graph.nodes:
        if (layer := own_layer(node)) is not None:
            yield layer


def first_node(graph: Graph, group: ChannelGroup) -> int:
    """The index of the first node that makes or reads something with channels of ``group``."""
    own = {id(place.value) for place in group.places}
    touches = (
        i for i, n in enumerate(graph.nodes) if any(id(v) in own for v in (*n.operands, *n.outputs))
    )
    return next(touches, len(graph.nodes))


def add_biases(graph: Graph) -> None:
    """Give every layer that can have a bias one (of zeros), so that compensation can set it."""
    for layer in layers(graph):
        node = layer.node
        if layer.takes_bias and len(node.operands) < 3:
            zeros = np.zeros(layer.channels[1], node.operands[1].type.dtype)
            bias = graph.constant(zeros, f"{node.name}.bias")
            graph.set_inputs(node, [*node.operands[:2], bias])
