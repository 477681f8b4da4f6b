"""A branch beside a layer of a quantized network: two small layers, whose result is added.  ::

    %y = Conv(%x.d, W)                  %r.q = Quantize(Relu(%y))
    ->
    %h.d = ...(Conv(%x.d, down))        %c.d = ...(Conv(%h.d, up))
    %y = Conv(%x.d, W)                  %r.q = Quantize(Relu(Add(%y, %c.d)))

Codes lie where integer kernels want them: an epilogue adds one tensor of codes, so a layer that
adds a shortcut already adds the shortcut *with* the branch, whose own epilogue makes that sum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node, Value
from ...ir.ops.elementwise import Add
from ...ir.ops.quantize import Quantize
from ..codes import codes_of
from ..linear import Linear
from ..plan import CLAMPS
from ..quantize import Scale, insert_codes
from ..rounding.weights import Rounded, input_scale

BITS = 8
"""Of all codes of a branch."""


@dataclass(frozen=True)
class Branch:
    """``up(down(x))``, added to the result ``layer`` of a layer that reads the codes ``x``.

    ``hidden``: the codes between both; ``result``: those of what is added to the layer's own
    result, where that sum becomes codes.
    """

    layer: str
    down: Rounded
    up: Rounded
    hidden: Scale
    result: Scale | None = None

    @property
    def rank(self) -> int:
        """Numbers between both halves (for each group)."""
        return int(self.down.codes.shape[1])

    @property
    def bytes(self) -> int:
        """Of its constants."""
        return sum(_bytes(half.codes.size, half.steps.size) for half in (self.down, self.up))

    def insert(self, graph: Graph) -> Value:
        """Add it to ``graph``; what ``result`` is the codes of."""
        y = graph[self.layer]
        node, readers, shortcut = y.producer, list(y.uses), shortcut_of(graph, y)
        assert node is not None
        x = node.operands[0]
        before = min(readers, key=graph.index, default=None)
        own = add_half(graph, node, x.name, self.down, before)
        made = add_half(graph, node, own.output.name, self.up, before, last=True)
        insert_codes(graph, own.output, BITS, self.hidden)
        self.down.write(graph, own, input_scale(own))
        self.up.write(graph, made, input_scale(made))
        added = made.output
        if shortcut is not None:
            name = f"{self.layer}.shortcut"
            added = graph.add(Add(), [added, shortcut], names=[name], before=before).output
            inputs = [added if v is shortcut else v for v in readers[0].inputs]
            graph.set_inputs(readers[0], inputs)
        else:
            _add_to(graph, y, added, readers)
        if self.result is not None:
            insert_codes(graph, added, BITS, self.result)
        return added


def branch_bytes(layer: Linear, rank: int) -> int:
    """What a branch of a rank costs beside a layer; nothing for rank 0."""
    if not rank:
        return 0
    rows, outputs = rank * layer.groups, layer.channels[1]
    return _bytes(rows * layer.width, rows) + _bytes(rank * outputs, outputs)


def coded_sum(graph: Graph, y: Value) -> bool:
    """Whether what is added to a layer's result ``y`` has to be codes."""
    return shortcut_of(graph, y) is not None or becomes_codes(graph, y)


def becomes_codes(graph: Graph, value: Value) -> bool:
    """Whether a value, or what clamps leave of it, becomes codes of at most 8 bits, and only so."""
    while (user := graph.sole_use(value)) is not None and user.op.name in CLAMPS:
        value = user.output
    return user is not None and isinstance(user.op, Quantize) and user.op.dtype == "uint8"


def shortcut_of(graph: Graph, y: Value) -> Value | None:
    """The codes that the layer which makes ``y`` adds in its epilogue."""
    user = graph.sole_use(y)
    if user is None or user.op.name != "Add" or not becomes_codes(graph, user.output):
        return None
    other = next((v for v in user.operands if v is not y), None)
    codes = codes_of(other)
    if other is None or codes is None or codes.value.type.dtype != "uint8":
        return None
    return other if other.type.shape == y.type.shape else None


def _add_to(graph: Graph, y: Value, added: Value, readers: list[Node]) -> None:
    """Let all readers of ``y`` read its sum with ``added``."""
    first = min(readers, key=graph.index, default=None)
    total = graph.add(Add(), [y, added], names=[f"{y.name}.mended"], before=first).output
    for reader in dict.fromkeys(readers):
        graph.set_inputs(reader, [total if v is y else v for v in reader.inputs])
    if graph.is_output(y):
        graph.outputs = [total if v is y else v for v in graph.outputs]
        graph._swap_names(y, total)


def add_half(
    graph: Graph, node: Node, x: str, made: Rounded, before: Node | None = None, last: bool = False
) -> Node:
    """A float layer like ``node`` with the weights ``made``; ``last`` ones see single positions."""
    op: Any = node.op
    weights, name = made.real, f"{node.output.name}.{'up' if last else 'down'}"
    if op.name == "Conv":
        ones = (1,) * len(op.strides)
        kernel = ones if last else node.operands[1].shape[2:]
        weights = weights.reshape(-1, weights.shape[2], *kernel)
        if last:
            op = replace(op, strides=ones, pads=(0, 0) * len(ones), dilations=ones)
    else:
        weights = weights[0, :, :, 0].T
    inputs = [graph[x], graph.constant(weights.astype(np.float32), f"{name}.weight")]
    if made.bias is not None:
        inputs.append(graph.constant(made.bias.astype(np.float32), f"{name}.bias"))
    return graph.add(op, inputs, names=[name], before=before)


def _bytes(codes: int, rows: int) -> int:
    """Of int8 codes, and of a bias and a multiplier for every row."""
    return codes + 8 * rows
