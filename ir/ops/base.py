"""The base of all ops.

An op is a frozen dataclass whose fields are its attributes.  It keeps its meaning together:
``infer`` (types of the results), ``eval`` (the numpy reference: what the op means) and ``couple``
(how the axes of operands and results correspond).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..types import Array, Dim, Shape, TensorType

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node, Value

Operands = Sequence["Value | None"]


@dataclass(frozen=True)
class Op:
    """An operation; names and semantics of the float ops follow ONNX."""

    domain: ClassVar[str] = "ai.onnx"

    @property
    def name(self) -> str:
        """The op's name in IR text."""
        return type(self).__name__

    def infer(self, ins: Operands) -> list[TensorType]:
        """Types of the results; ``ValueError`` says what is wrong with the operands."""
        raise NotImplementedError(self.name)

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        """The results for numpy operands: the reference semantics."""
        raise NotImplementedError(self.name)

    def couple(self, relations: Relations, node: Node) -> None:
        """State how the axes of operands and results correspond; here: that nothing is known."""
        relations.pin_all(node, f"op {self.name}")

    def attributes(self) -> dict[str, object]:
        """The attributes that differ from their defaults, by name."""
        out: dict[str, object] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if value != f.default:
                out[f.name] = value
        return out


def operand(ins: Operands, index: int) -> Value:
    """Operand ``index``, which must be present; ``ValueError`` otherwise."""
    if index >= len(ins) or (value := ins[index]) is None:
        raise ValueError(f"operand {index} is missing")
    return value


def optional(ins: Sequence[Array | None], index: int) -> Array | None:
    """Array ``index`` if it is given."""
    return ins[index] if index < len(ins) else None


def given(ins: Sequence[Array | None], index: int = 0) -> Array:
    """Array ``index``, which must be given."""
    array = optional(ins, index)
    if array is None:
        raise ValueError(f"operand {index} is missing")
    return array


def normal_axis(axis: int, rank: int) -> int:
    """A non-negative axis; ``ValueError`` if it is out of range."""
    if not -rank <= axis < max(rank, 1):
        raise ValueError(f"axis {axis} is out of range for {rank} axes")
    return axis % rank if rank else 0


def broadcast(*shapes: Shape) -> Shape:
    """The shape that numpy's broadcasting gives; of two symbols one may turn out to be 1."""
    rank = max(map(len, shapes), default=0)
    out: list[Dim] = []
    for i in range(rank):
        dims = [s[i - rank + len(s)] for s in shapes if i - rank + len(s) >= 0]
        wide = list(dict.fromkeys(d for d in dims if d != 1))
        known = [d for d in wide if isinstance(d, int)]
        if len(set(known)) > 1:
            raise ValueError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
        out.append(known[0] if known else "|".join(map(str, wide)) if wide else 1)
    return tuple(out)


def window_output(
    size: int, kernel: int, stride: int, pads: tuple[int, int], dilation: int, ceil: bool = False
) -> int:
    """Output positions of a sliding window along one axis (ONNX ``Conv`` and pooling)."""
    reach = size + pads[0] + pads[1] - dilation * (kernel - 1) - 1
    if reach < 0:
        raise ValueError(f"kernel {kernel} (dilation {dilation}) exceeds the padded size {size}")
    out = (reach + stride - 1) // stride + 1 if ceil else reach // stride + 1
    if ceil and (out - 1) * stride >= size + pads[0]:
        out -= 1
    return out


def patches(
    x: Array,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    outputs: Sequence[int],
) -> Array:
    """Windows of a padded ``[N, C, *spatial]`` array: a view ``[N, C, *outputs, *kernel]``."""
    space = x.strides[2:]
    shape = (*x.shape[:2], *outputs, *kernel)
    steps = (
        *x.strides[:2],
        *(s * t for s, t in zip(space, strides, strict=True)),
        *(s * d for s, d in zip(space, dilations, strict=True)),
    )
    return np.lib.stride_tricks.as_strided(x, shape, steps, writeable=False)


def ends(pads: Sequence[int], i: int) -> tuple[int, int]:
    """Padding before and after spatial axis ``i``; ``pads`` are all begins, then all ends."""
    return pads[i], pads[i + len(pads) // 2]


def tap_of(
    tap: Sequence[int], sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[slice, ...]:
    """The elements that one tap of a kernel touches, for all positions."""
    starts = (t * d for t, d in zip(tap, dilations, strict=True))
    space = (
        slice(at, at + (size - 1) * stride + 1, stride)
        for at, size, stride in zip(starts, sizes, strides, strict=True)
    )
    return (slice(None), slice(None), *space)
