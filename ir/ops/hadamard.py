"""The product with a Hadamard matrix: a rotation that no weights can take on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ..coupling.action import Action
from ..hadamard import hadamard, split
from ..types import Array, TensorType
from .base import Op, Operands, given, operand

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node


@dataclass(frozen=True)
class Hadamard(Op):
    """``x @ H / sqrt(n)`` along the last axis of length n; ``H`` is the matrix of `hadamard`.

    Operands: x, of floats.  Orthogonal: the columns of ``H / sqrt(n)`` have length 1.
    """

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        size = x.shape[-1] if x.rank else None
        if not x.is_float or not isinstance(size, int) or split(size) is None:
            raise ValueError(f"{x} has no last axis with a Hadamard matrix of its length")
        return [x]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        return [np.asarray(np.matmul(x, rotation(x.shape[-1]).astype(x.dtype)))]

    def couple(self, relations: Relations, node: Node) -> None:
        """Where single channels go and what sizes they have is mixed; all other axes pass."""
        x, y = relations.axes(node.operands[0]), relations.axes(node.output)
        for axis in (x[-1], y[-1]):
            relations.pin(axis, "mixed by a Hadamard matrix")
        relations.aligned(x[:-1], y[:-1], Action.COUPLED | Action.LINEAR)
        relations.contract(node, 0, x[-1])


@cache
def rotation(size: int) -> Array:
    """The orthogonal matrix of ``Hadamard``, float64 ``[size, size]``; not to be changed."""
    matrix = hadamard(size)
    assert matrix is not None
    out = matrix / np.sqrt(size)
    out.flags.writeable = False
    return np.asarray(out)
