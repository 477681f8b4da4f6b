"""States that are written in place: the caller's memory is the state before and after."""

import numpy as np

from ...ir.errors import BackendError
from ...ir.graph import Graph, Node
from .lower import Lowering, Place


def lower_tensor_scatter(low: Lowering, node: Node) -> None:
    """``TensorScatter``: into the state itself where nobody else reads it, else into a copy."""
    cache, update, *_ = node.operands
    target = _in_place(low, node)
    if target is None:
        target = low.result(node.output)
        low.copy(low.place(cache), target)
    low.places[id(node.output)] = target
    low.generic(node.op, [low.place(update), _starts(low, node)], [target])


def lower_cached_attention(low: Lowering, node: Node) -> None:
    """Absent biases are zero, absent multipliers one."""
    absent = {4: np.int32(0), 5: np.float32(1), 6: np.int32(0), 7: np.float32(1)}
    places = [
        low.constant(absent[i].reshape(1)) if value is None else low.place(value)
        for i, value in enumerate(node.inputs)
    ]
    low.generic(node.op, places, [low.result(node.output)])


def _in_place(low: Lowering, node: Node) -> Place | None:
    """The memory of the state that ``node`` makes of its only reader's operand."""
    cache, made = node.operands[0], node.output
    if (cache.name, made.name) not in low.graph.states or cache.uses != [node]:
        return None
    if low.fine:
        raise BackendError(
            f"state {cache.name!r} is written in place, which code for CUDA cannot do: "
            "compile the decoder for another target"
        )
    place = low.output(made)
    low.program.keep(low.program.inputs[_index(low.graph, cache.name)], place.buffer)
    return place


def _index(graph: Graph, name: str) -> int:
    return next(i for i, v in enumerate(graph.inputs) if v.name == name)


def _starts(low: Lowering, node: Node) -> Place:
    """The first index of every sample."""
    if len(node.inputs) > 2 and (value := node.inputs[2]) is not None:
        return low.place(value)
    return low.constant(np.zeros(node.operands[0].shape[0], np.int64))
