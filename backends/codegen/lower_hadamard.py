"""The product with a Hadamard matrix: its core becomes a constant."""

import numpy as np

from ...ir.graph import Node
from ...ir.hadamard import hadamard, split
from .hadamard import Butterfly
from .lower import Lowering


def lower_hadamard(low: Lowering, node: Node) -> None:
    """``Hadamard`` in float32."""
    size = node.output.shape[-1]
    found = split(size)
    assert found is not None
    power, order = found
    core = hadamard(order)
    assert core is not None
    factors = low.constant((core / np.sqrt(size)).astype(np.float32), f"{node.name}.core")
    ins = [low.place(node.operands[0]), factors]
    low.generic(Butterfly(power), ins, [low.result(node.output)])
