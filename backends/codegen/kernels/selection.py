"""Which template serves a workload on a cpu, decided by the cpu's features alone."""

from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from .amx import Amx
from .arm import depthwise_sdot, depthwise_usdot, neon, sdot, step_of, usdot
from .avx2 import avx2, avx2_narrow
from .avx2_short import ShortConv, counted
from .conv import ConvWorkload, collapse, runs_of
from .cuda.depthwise import Depthwise as CudaDepthwise
from .cuda.imma import Imma
from .cuda.tile import Tile
from .depthwise import Depthwise
from .depthwise_columns import DepthwiseColumns
from .depthwise_fp32 import DepthwiseFloat
from .depthwise_plan import DepthwiseWorkload
from .epilogue import FloatEpilogue
from .fp32 import fp32
from .neon import Neon
from .neon_v7 import NeonV7
from .scheduled import SCHEDULED, Scheduled
from .smmla import Smmla
from .template import Template, default_knobs
from .vnni import avx_vnni, vnni
from .x86 import X86

_AMX_PIXELS = 4
_IMMA_PIXELS = 8
_NARROW_PIXELS = 16
"""So few pixels do not hide that weights come from a far cache or from memory (as measured)."""


VERSION = 1
"""Of all templates: raised when what one of them generates gets faster or slower."""


@lru_cache(maxsize=4096)
def templates(workload: ConvWorkload, features: frozenset[str]) -> dict[str, Template]:
    """All templates worth measuring, by name, the best guess first.

    ``features``: names as of LLVM ("amx-int8", "avx512vnni", "avx512vbmi", "avx512f", "avxvnni",
    "avx2"; "neon", "dotprod", "i8mm", on armv7 "vfp4"; of CUDA "dp4a", "imma"). Raises ValueError
    for a cpu with neither AVX2 nor NEON.
    """
    if "neon" in features:
        return _arm(workload, features)
    if "dp4a" in features:
        return _cuda(workload, features)
    if "avx2" not in features:
        raise ValueError(
            f"no kernel template for a cpu with neither avx2 nor neon: {sorted(features)}"
        )
    if isinstance(workload.epilogue, FloatEpilogue):
        wide = "avx512f" in features
        if isinstance(workload, DepthwiseWorkload):
            return {"depthwise-fma": DepthwiseFloat(X86(16 if wide else 8), 32 if wide else 16)}
        return {"fma": fp32(X86(16), 28) if wide else fp32(X86(8), 12)}
    vbmi = "avx512vbmi" in features
    if isinstance(workload, DepthwiseWorkload):
        if "avx512vnni" in features:
            return {"depthwise-vnni": Depthwise(16, partial(X86, vbmi=vbmi))}
        if "avxvnni" in features:
            return {"depthwise-avxvnni": Depthwise(8, X86)}
        return {"depthwise-avx2": Depthwise(8, X86, dots=False)}
    if "avx512vnni" in features:
        found: dict[str, Template] = {"vnni": vnni(vbmi)}
        if "amx-int8" not in features:
            return found
        return {"amx": Amx(vbmi), **found} if _suits_amx(workload) else {**found, "amx": Amx(vbmi)}
    if "avxvnni" in features:
        return {"avxvnni": avx_vnni()}
    if collapse(workload).pixels <= _NARROW_PIXELS:
        return {"avx2-narrow": avx2_narrow(), "avx2": avx2()}
    if not workload.visits:
        return {"avx2": avx2()}
    both: dict[str, Template] = {"avx2": avx2(), "avx2-short": ShortConv()}
    costs = {n: t.cost(workload, default_knobs(t, workload)) for n, t in both.items()}
    return {name: both[name] for name in sorted(both, key=costs.__getitem__)}


def weighed(
    workload: ConvWorkload, features: frozenset[str], weights: NDArray[np.generic]
) -> ConvWorkload:
    """The workload with what its templates must know of its OIHW weights to be compared."""
    widened = templates(workload, features).keys() == {"avx2"}
    return counted(workload, weights) if widened else workload


def template_of(workload: ConvWorkload, features: frozenset[str], name: str) -> Template:
    """A template by its name; schedules are none of ``templates``, since only a search has them."""
    return Scheduled() if name == SCHEDULED else templates(workload, features)[name]


def _arm(workload: ConvWorkload, features: frozenset[str]) -> dict[str, Template]:
    if "vfp4" in features:
        return _arm_v7(workload)
    best = next((f for f in ("i8mm", "dotprod") if f in features), "neon")
    if isinstance(workload.epilogue, FloatEpilogue):
        rate = 1.0 if best == "neon" else 2.0  # cores without dot products are small ones
        if isinstance(workload, DepthwiseWorkload):
            return {"depthwise-fma": DepthwiseFloat(Neon(), 32, rate)}
        return {"fma": fp32(Neon(), 24, rate)}
    if isinstance(workload, DepthwiseWorkload):
        if best == "neon":
            return {"depthwise-neon": DepthwiseColumns()}
        return {f"depthwise-{best}": depthwise_usdot() if best == "i8mm" else depthwise_sdot()}
    template = {"i8mm": usdot, "dotprod": sdot, "neon": neon}[best]
    steps = [step_of(workload)] + ([4] if step_of(workload) != 4 else [])
    found: dict[str, Template] = {f"{best}-{step}": template(step) for step in steps}
    if best != "i8mm" or collapse(workload).y.width < 2:
        return found
    matrices = Smmla()
    cost = matrices.cost(workload, default_knobs(matrices, workload))
    dots = template(steps[0])
    better = cost < dots.cost(workload, default_knobs(dots, workload))
    return {"smmla": matrices, **found} if better else {**found, "smmla": matrices}


def _cuda(workload: ConvWorkload, features: frozenset[str]) -> dict[str, Template]:
    if isinstance(workload, DepthwiseWorkload):
        if isinstance(workload.epilogue, FloatEpilogue):
            return {"depthwise-fmaf": CudaDepthwise(1)}
        return {"depthwise-dp4a": CudaDepthwise(4)}
    if isinstance(workload.epilogue, FloatEpilogue):
        return {"fmaf": Tile(1)}
    found: dict[str, Template] = {"dp4a": Tile(4)}
    if "imma" not in features:
        return found
    rows = workload.pixels
    return {"imma": Imma(), **found} if rows >= _IMMA_PIXELS else {**found, "imma": Imma()}


def _arm_v7(workload: ConvWorkload) -> dict[str, Template]:
    """Sixteen registers of 128 bits."""
    isa = NeonV7()
    if isinstance(workload.epilogue, FloatEpilogue):
        if isinstance(workload, DepthwiseWorkload):
            return {"depthwise-vfma": DepthwiseFloat(isa, 14, 0.5)}
        return {"vfma": fp32(isa, 10, 0.5)}
    if isinstance(workload, DepthwiseWorkload):
        return {"depthwise-vmla": DepthwiseColumns(isa, 2)}
    steps = [step_of(workload)] + ([4] if step_of(workload) != 4 else [])
    return {f"vmull-{step}": neon(step, isa, 6) for step in steps}


def _suits_amx(workload: ConvWorkload) -> bool:
    """Compare the cycles per sixteen outputs, as measured on Sapphire Rapids.

    AMX multiplies eight times faster, but its accumulators leave through memory at five cycles a
    row; so short reductions are left to VNNI, and matrix products of a few rows, which only read
    weights.
    """
    workload = collapse(workload)
    if workload.pixels < _AMX_PIXELS:
        return False
    runs, idle = runs_of(workload), max(1.0, 8 / workload.y.width)
    return 1.15 * runs.total(64) * idle + 7.5 < 0.6 * runs.total(4) + 3.5
