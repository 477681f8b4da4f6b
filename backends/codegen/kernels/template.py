"""What every kernel template offers."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .conv import ConvWorkload

Knobs = Any
"""A frozen dataclass of the template's own: how one workload is cut and ordered."""


class Template(Protocol):
    """Makes kernels for one instruction set.

    The C signature of a kernel is ``void name(x, weights, bias, [multiplier], [residual],
    [table], y, int32 lo, int32 hi)``; it does the iterations ``lo <= i < hi`` of ``extent``.
    Any split of the iterations over threads is right: where tiles overlap, equal values are
    written twice.
    """

    @property
    def shift(self) -> int:
        """What the kernel takes off every code of ``x``; the bias must hold what that costs."""

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: Knobs
    ) -> NDArray[np.generic]:
        """OIHW weights with logical channels -> the kernel's own layout, padded with zeros."""

    def extent(self, workload: ConvWorkload, knobs: Knobs) -> int:
        """The number of iterations."""

    def knob_space(self, workload: ConvWorkload) -> list[Knobs]:
        """All choices worth measuring; without measuring the one of the least cost is taken."""

    def cost(self, workload: ConvWorkload, knobs: Knobs) -> float:
        """Estimated cycles of the whole kernel."""

    def prim_func(self, workload: ConvWorkload, knobs: Knobs, name: str) -> Any:
        """The kernel as ``tvm.tirx.PrimFunc``."""


def default_knobs(template: Template, workload: ConvWorkload) -> Knobs:
    """A good choice without measuring."""
    return min(template.knob_space(workload), key=lambda knobs: template.cost(workload, knobs))


def start(
    template: Template, bias: NDArray[np.generic], weights: NDArray[np.generic]
) -> NDArray[np.generic]:
    """What the accumulators start at, per output channel of the OIHW ``weights``."""
    if not template.shift:
        return bias
    taken = template.shift * weights.astype(np.int64).sum((1, 2, 3))
    return np.asarray((bias + taken).astype(np.int32))
