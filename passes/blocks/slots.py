"""Where number formats go: operands of layers, rows of caches, tables of embeddings.

A product sums along the axis on which its operands are cut into blocks, so that a machine can add
up a block before it scales it.  The channels of a convolution that
do not fill whole blocks lie together with the taps of its kernel, if that takes fewer bytes.
Keys and values of an attention are different: a cache takes them
token by token, so their blocks lie within the row of a token, as it lies in memory, heads and all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from ...ir.formats import parse
from ...ir.graph import Graph, Node, Value
from ..context import Kept
from .tied_tables import is_embedding, is_table, is_turned

MOVES = frozenset({"Expand", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"})
REPEATS = frozenset({"Expand", "Tile"})
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
BETWEEN = "formats are for operands of products: between them all is float"
NO_SUM = "it sums over one channel only: nothing shares a block"


@dataclass(frozen=True)
class Slot:
    """A value that ``node`` reads as operand ``operand`` and that is to be in a ``format``.

    Blocks lie along ``axis``; where ``rows`` is set, along that and all axes behind it, flattened.
    ``what``: ``weights``, ``activations``, ``inputs``, ``caches`` or ``probabilities``.
    """

    node: Node
    operand: int
    axis: int
    format: str
    what: str
    rows: bool = False

    @property
    def value(self) -> Value:
        """What is encoded."""
        value = self.node.inputs[self.operand]
        assert value is not None
        return value

    @property
    def length(self) -> int:
        """Elements that are cut into blocks together."""
        shape = self.value.shape[self.axis :]
        return prod(shape) if self.rows else shape[0]

    @property
    def bytes(self) -> int:
        """Bytes of the value when packed."""
        return self.value.type.size // self.length * parse(self.format).bytes(self.length)

    @property
    def key(self) -> tuple[int, int, str, bool]:
        """Equal for slots that can share one encoding."""
        return id(self.value), self.axis, self.format, self.rows


@dataclass
class Slots:
    """The slots of a graph, and why layers stay float, by name."""

    found: list[Slot] = field(default_factory=list)
    why_float: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(graph: Graph, formats: Mapping[str, str], kept: Kept) -> Slots:
        """``formats`` (by what is encoded; empty: stays float) at every layer that is not kept."""
        out = Slots()
        for node in graph.nodes:
            if why := kept.why(node.name):
                out.why_float[node.name] = why
            elif node.op.name in LAYERS:
                out._layer(node, formats)
            elif is_embedding(node) or is_turned(node):
                out._table(node, formats)
            else:
                out.why_float[node.name] = BETWEEN
        return out

    def _table(self, node: Node, formats: Mapping[str, str]) -> None:
        if name := formats["tables"] or formats["weights"]:
            self.found.append(Slot(node, 0, node.operands[0].type.rank - 1, name, "weights"))
        else:
            self.why_float[node.name] = BETWEEN

    def _layer(self, node: Node, formats: Mapping[str, str]) -> None:
        axes = summed(node)
        if node.operands[0].type.static[axes[0]] == 1 or _is_depthwise(node):
            self.why_float[node.name] = NO_SUM
            return
        slots = list(_slots(node, axes, formats))
        self.found += slots
        if not slots and not _reads_turned(node):
            self.why_float[node.name] = "the recipe gives its operands no format"


def summed(node: Node) -> tuple[int, int]:
    """The axes of both operands of a layer over which it sums."""
    op: Any = node.op
    a, b = node.operands[:2]
    if op.name == "Conv":
        return 1, 1
    if op.name == "ConvTranspose":
        return 1, 0
    if op.name == "Gemm":
        return (0 if op.trans_a else a.type.rank - 1), (1 if op.trans_b else 0)
    return a.type.rank - 1, max(b.type.rank - 2, 0)


def _slots(node: Node, axes: tuple[int, int], formats: Mapping[str, str]) -> Iterator[Slot]:
    a, b = node.operands[:2]
    attention = not a.is_constant and not b.is_constant and not _reads_turned(node)
    for i, (value, axis) in enumerate(zip((a, b), axes, strict=True)):
        if value.is_constant:
            tied = is_table(value) and axis == value.type.rank - 1
            what = "tables" if tied and formats["tables"] else "weights"
        elif i == 1 and _reads_turned(node):
            continue
        elif i == 1 and attention and formats["caches"]:
            yield _cached(node, formats["caches"])
            continue
        else:
            what = "inputs" if value.producer is None else "activations"
        name = formats[what] or (formats["activations"] if what == "inputs" else "")
        if name:
            slot = Slot(node, i, axis, name, "weights" if what == "tables" else what)
            taps = replace(slot, rows=node.op.name == "Conv" and value.is_constant)
            yield min(slot, taps, key=lambda s: s.bytes)


def _cached(node: Node, name: str) -> Slot:
    """The rows that a cache would hold: before heads are repeated, within a token."""
    operand = node.operands[1]
    token = operand.type.rank - (2 if is_probability(node.operands[0]) else 1)
    chain = _chain(operand)
    reader, at = (chain[-1], 0) if chain else (node, 1)
    value = reader.operands[at]
    axis = _followed(value, operand, chain, token)
    if axis == value.type.rank - 1:
        return Slot(reader, at, axis - 1, name, "caches")
    return Slot(reader, at, axis + 1, name, "caches", rows=True)


def _chain(value: Value) -> list[Node]:
    """The nodes, last one first, that move what a cache would hold to where it is multiplied.

    Back to where heads are repeated; without that, to the first transposition.
    """
    chain = list[Node]()
    while value.producer is not None and value.producer.op.name in MOVES:
        chain.append(value.producer)
        value = value.producer.operands[0]
    names = [n.op.name for n in chain]
    wanted = REPEATS if REPEATS & set(names) else {"Transpose"}
    cut = max((i + 1 for i, n in enumerate(names) if n in wanted), default=0)
    while cut and names[cut : cut + 1] == ["Unsqueeze"]:
        cut += 1
    return chain[:cut]


def _followed(value: Value, operand: Value, chain: list[Node], axis: int) -> int:
    """The axis of ``value`` along which axis ``axis`` of ``operand`` runs; 0 for one token."""
    if operand.shape[axis] == 1:
        return 0
    places = np.arange(prod(value.shape)).reshape(value.shape)
    for node in reversed(chain):
        places = node.op.eval([places, *(v.data for v in node.operands[1:])])[0]
    ends = (np.take(places, i, axis).ravel()[0] for i in (0, 1))
    here, there = (np.unravel_index(i, value.shape) for i in ends)
    return next(k for k, (i, j) in enumerate(zip(here, there, strict=True)) if i != j)


def is_probability(value: Value) -> bool:
    """Whether a softmax makes a value."""
    return value.producer is not None and value.producer.op.name == "Softmax"


def _is_depthwise(node: Node) -> bool:
    return node.op.name == "Conv" and node.operands[1].shape[1] == 1


def _reads_turned(node: Node) -> bool:
    """Whether a layer multiplies by a table of embeddings, which is encoded before it is turned."""
    maker = node.operands[1].producer
    return maker is not None and is_turned(maker)
