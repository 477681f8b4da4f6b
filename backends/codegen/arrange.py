"""Decides, before anything is placed, how each value will lie in memory.

Images (values that meet a spatial op) are channels-last, everything else is row-major.  An image
that padded convolutions read gets a border with room for the greatest padding; parts of a
concatenation over channels are written straight into the result.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ...ir.graph import Graph, Node, Value
from ...ir.ops.base import window_output
from .layout import LANES, Halo

SPATIAL = frozenset({
    "QConv", "QAveragePool", "Conv", "ConvTranspose", "MaxPool", "AveragePool",
    "LpPool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "QResize", "DepthToSpace",
    "SpaceToDepth", "BatchNormalization", "InstanceNormalization", "LRN", "GroupNormalization",
})  # fmt: skip
PADDED = frozenset({"QConv", "Conv"})
_RESHAPING = frozenset({
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Gather", "MatMul", "Gemm",
    "QMatMul", "Softmax", "QSoftmax", "LayerNormalization", "RMSNormalization", "Shape",
    "GatherElements", "GatherND", "ScatterND", "SelectiveScan", "TensorScatter",
    "Hadamard",
})  # fmt: skip
_RANKS = (3, 4, 5)


@dataclass(frozen=True)
class Border:
    """The halo of an image and the code that fills it."""

    halo: Halo
    value: int


@dataclass
class Arrangement:
    """What was decided: by the identity of values."""

    images: set[int] = field(default_factory=set)
    borders: dict[int, Border] = field(default_factory=dict)
    parts: dict[int, tuple[Node, int]] = field(default_factory=dict)

    def is_image(self, value: Value) -> bool:
        """Whether ``value`` lies channels-last."""
        return id(value) in self.images

    def border(self, value: Value) -> Border | None:
        """The border that ``value`` is allocated with."""
        return self.borders.get(id(value))

    def part(self, value: Value) -> tuple[Node, int] | None:
        """The concatenation that ``value`` is written into, and its first channel there."""
        return self.parts.get(id(value))


def arrange(graph: Graph) -> Arrangement:
    """Decide for all values of ``graph``."""
    out = Arrangement(_images(graph))
    for value in graph.values:
        if out.is_image(value) and not value.is_constant:
            border = _border(value)
            if border is not None:
                out.borders[id(value)] = border
    taken: set[int] = set()
    for node in graph.nodes:
        if node.op.name == "Concat":
            _alias(graph, node, out, taken)
    return out


def needed_pads(node: Node) -> tuple[int, ...]:
    """The padding that a convolution really reads, begins then ends."""
    op, n = node.op, node.operands[0].type.rank - 2
    pads: tuple[int, ...] = getattr(op, "pads")  # noqa: B009
    strides: tuple[int, ...] = getattr(op, "strides")  # noqa: B009
    dilations: tuple[int, ...] = getattr(op, "dilations")  # noqa: B009
    x, w = node.operands[0].shape[2:], node.operands[1].shape[2:]
    ends = []
    for i in range(n):
        out = window_output(x[i], w[i], strides[i], (pads[i], pads[i + n]), dilations[i])
        reach = (out - 1) * strides[i] + (w[i] - 1) * dilations[i] + 1
        ends.append(max(0, reach - x[i] - pads[i]))
    return (*pads[:n], *ends)


def _images(graph: Graph) -> set[int]:
    """Spread "channels-last" from spatial ops through everything that keeps shapes' ranks."""
    images: set[int] = set()
    for node in graph.nodes:
        if node.op.name in SPATIAL:
            images.update(id(v) for v in (node.operands[0], *node.outputs) if v.type.rank in _RANKS)
    changed = True
    while changed:
        before = len(images)
        for node in [*graph.nodes, *reversed(graph.nodes)]:
            if node.op.name not in _RESHAPING:
                _spread(node, images)
        changed = len(images) > before
    return images


def _spread(node: Node, images: set[int]) -> None:
    values = [v for v in (*node.operands, *node.outputs) if not v.is_constant]
    ranks = {v.type.rank for v in values if id(v) in images}
    images.update(id(v) for v in values if v.type.rank in ranks)


def _border(value: Value) -> Border | None:
    """The union of what the padded readers need, if they agree on the code."""
    border: Border | None = None
    for node in dict.fromkeys(value.uses):
        if node.op.name not in PADDED or node.operands[0] is not value:
            continue
        pads = needed_pads(node)
        if not any(pads):
            continue
        code = int(getattr(node.op, "pad_value", 0))
        if border is None:
            border = Border(Halo().grown(pads), code)
        elif border.value == code:
            border = Border(border.halo.grown(pads), code)
    return border


def _alias(graph: Graph, node: Node, out: Arrangement, taken: set[int]) -> None:
    """Let the operands of a concatenation over channels live in its result where that fits."""
    result = node.output
    axis = int(getattr(node.op, "axis")) % result.type.rank  # noqa: B009
    if axis != 1 or not out.is_image(result) or graph.is_output(result):
        return
    at, fits = 0, []
    for i, value in enumerate(node.operands):
        if _fits(graph, value, at, i == len(node.operands) - 1, taken):
            fits.append((value, at))
        at += value.shape[1]
    borders = [b for v in (result, *(v for v, _ in fits)) if (b := out.border(v)) is not None]
    if len({b.value for b in borders}) > 1 or len({id(v) for v, _ in fits}) < len(fits):
        return
    _grow(out, result, borders)
    for value, first in fits:
        out.parts[id(value)] = (node, first)
        taken.add(id(value))


def _fits(graph: Graph, value: Value, at: int, last: bool, taken: set[int]) -> bool:
    whole = value.shape[1] % LANES == 0 or last
    free = id(value) not in taken and value.producer is not None and not graph.is_output(value)
    return free and whole and at % LANES == 0


def _grow(out: Arrangement, result: Value, borders: Iterable[Border]) -> None:
    """One border for the whole result, wide enough for all parts."""
    total: Border | None = None
    for border in borders:
        pads = (*border.halo.before, *border.halo.after)
        total = Border((total.halo if total else Halo()).grown(pads), border.value)
    if total is not None:
        out.borders[id(result)] = total
