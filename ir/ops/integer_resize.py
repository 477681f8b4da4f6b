"""Linear interpolation of codes, in fixed point."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Array, TensorType
from .base import Operands, given, operand
from .integer import IntegerOp


@dataclass(frozen=True)
class QResize(IntegerOp):
    """``(sum_t q[indices[i, t]] * weights[i, t] + half) >> shift`` along ``axes`` together.

    Operands: codes uint8, then for each axis indices int32 ``[out, taps]`` and weights int32
    ``[out, taps]``, not negative, each row with the sum ``2**bits``; ``shift = bits * len(axes)``
    is at most 22, so that every sum fits int32.  Scale and zero point stay.
    """

    axes: tuple[int, ...] = ()
    bits: int = 11

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if x.dtype != "uint8" or len(ins) != 1 + 2 * len(self.axes) or self.shift > 22:
            raise ValueError(f"{x} along axes {self.axes} with {self.bits} bits each")
        shape = list(x.shape)
        for i, axis in enumerate(self.axes):
            indices, weights = operand(ins, 1 + 2 * i).type, operand(ins, 2 + 2 * i).type
            if indices.static != weights.static:
                raise ValueError(f"indices {indices} for weights {weights}")
            shape[axis] = indices.static[0]
        return [x.with_shape(tuple(shape))]

    @property
    def shift(self) -> int:
        """Fraction bits of the sum."""
        return self.bits * len(self.axes)

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        total = given(ins).astype(np.int64)
        for i, axis in enumerate(self.axes):
            indices, weights = given(ins, 1 + 2 * i), given(ins, 2 + 2 * i).astype(np.int64)
            shape = [1] * total.ndim
            shape[axis] = -1
            taken = [
                np.take(total, indices[:, t], axis) * weights[:, t].reshape(shape)
                for t in range(indices.shape[1])
            ]
            total = np.asarray(np.sum(taken, 0))
        return [((total + ((1 << self.shift) >> 1)) >> self.shift).astype(np.uint8)]
