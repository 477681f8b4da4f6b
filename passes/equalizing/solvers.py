"""The table of solvers: name -> what it computes, and whether it needs calibration data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import (
    awq,
    cross_layer,
    dilate,
    dual_clipping,
    fp_bias,
    outlier_suppression,
    predicted,
    repq,
    smooth,
)
from .amounts import Amounts
from .site import Site


@dataclass(frozen=True)
class Solver:
    """``solve`` gives the amounts of a site, or None where it has no answer."""

    solve: Callable[[Site], Amounts | None]
    needs_data: bool = True
    sweeps: int = 1
    """How often all sites are solved, where a site's answer depends on others'."""
    contends: bool = True
    """Whether ``best`` tries it; else it has to be asked for by name."""


SOLVERS: dict[str, Solver] = {
    "predicted": Solver(predicted.solve, sweeps=2),
    "smooth": Solver(smooth.solve),
    "outlier-suppression": Solver(outlier_suppression.solve),
    "awq": Solver(awq.solve),
    "repq": Solver(repq.solve),
    "dual-clipping": Solver(dual_clipping.solve, contends=False),
    "fp-bias": Solver(fp_bias.solve),
    "cross-layer": Solver(cross_layer.solve, needs_data=False, sweeps=20),
    "dilate": Solver(dilate.solve, needs_data=False, sweeps=2),
}
"""In the order in which equals are taken."""
