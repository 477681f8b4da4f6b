"""Resize of a region, or with the aspect ratio kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..types import Array, Dim, TensorType
from .base import Op, Operands, given, operand
from .resize import Resize


@dataclass(frozen=True)
class CroppedResize(Op):
    """``resize``, of a region of interest or with one scale for all ``axes``.

    Operands: x, scales (float32) or sizes (int64) of ``axes``, with ``crop`` the region (begins of
    ``axes``, then ends, 0 to 1).  What lies outside of ``x`` is ``extrapolation_value``.
    ``policy`` ``not_larger`` and ``not_smaller`` take the least or greatest of the scales that
    sizes ask for.
    """

    resize: Resize = field(default_factory=Resize)
    axes: tuple[int, ...] = ()
    policy: str = "stretch"
    crop: bool = False
    extrapolation_value: float = 0.0

    def infer(self, ins: Operands) -> list[TensorType]:
        x, target = operand(ins, 0).type, operand(ins, 1)
        shape: list[Dim] = list(x.shape)
        for i, axis in enumerate(self.axes):
            shape[axis] = f"{target.name}.{i}"
        return [TensorType(x.dtype, tuple(shape))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, target = given(ins), given(ins, 1)
        scales, sizes = self._plan(x.shape, target)
        region = given(ins, 2).astype(np.float64).reshape(2, -1) if self.crop else None
        y = x.astype(np.float64) if self.crop or self.resize.mode != "nearest" else x
        outside = np.zeros((1,) * x.ndim, np.bool_)
        for i, (axis, out) in enumerate(sizes.items()):
            size = x.shape[axis]
            if region is None:
                at = self.resize.positions(size, out, scales[axis])
            else:
                at = _crop(size, out, region[0, i], region[1, i])
                beyond = (at < 0) | (at > size - 1)
                outside = outside | beyond.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            y = self.resize.along(y, axis, at, scales[axis])
        y = np.where(outside, self.extrapolation_value, y) if self.crop else y
        return [np.ascontiguousarray(y).astype(x.dtype)]

    def _plan(self, shape: Sequence[int], target: Array) -> tuple[dict[int, float], dict[int, int]]:
        """Scale and size of each axis."""
        if target.dtype.kind == "f":
            scales = dict(zip(self.axes, target.tolist(), strict=True))
            return scales, {a: int(np.floor(shape[a] * np.float32(s))) for a, s in scales.items()}
        asked = {a: int(n) / shape[a] for a, n in zip(self.axes, target, strict=True)}
        if self.policy == "stretch":
            return asked, {a: int(n) for a, n in zip(self.axes, target, strict=True)}
        choose = min if self.policy == "not_larger" else max
        scale = choose(asked.values())
        return dict.fromkeys(asked, scale), {
            a: int(np.floor(shape[a] * scale + 0.5)) for a in asked
        }


def _crop(size: int, out: int, start: float, end: float) -> Array:
    """Where in the operand each result of a region lies."""
    if out == 1:
        return np.array([(start + end) * (size - 1) / 2])
    return np.asarray((start + np.arange(out) * (end - start) / (out - 1)) * (size - 1))
