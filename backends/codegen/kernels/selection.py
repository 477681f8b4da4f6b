"""Which template serves a workload on a cpu, decided by the cpu's features alone."""

from functools import partial

from .amx import Amx
from .arm import depthwise_sdot, depthwise_usdot, neon, sdot, step_of, usdot
from .avx2 import avx2
from .conv import ConvWorkload, collapse, runs_of
from .depthwise import Depthwise
from .depthwise_columns import DepthwiseColumns
from .depthwise_plan import DepthwiseWorkload
from .epilogue import FloatEpilogue
from .fp32 import fp32
from .neon import Neon
from .template import Template
from .vnni import avx_vnni, vnni
from .x86 import X86

_AMX_PIXELS = 4


def select(workload: ConvWorkload, features: frozenset[str]) -> Template:
    """The fastest template for ``workload``.

    ``features``: names as of LLVM ("amx-int8", "avx512vnni", "avx512vbmi", "avx512f", "avxvnni",
    "avx2"; "neon", "dotprod", "i8mm"). Raises ValueError for a cpu with neither AVX2 nor NEON.
    """
    if "neon" in features:
        return _select_arm(workload, features)
    if "avx2" not in features:
        raise ValueError(
            f"no kernel template for a cpu with neither avx2 nor neon: {sorted(features)}"
        )
    if isinstance(workload.epilogue, FloatEpilogue):
        return fp32(X86(16), 28) if "avx512f" in features else fp32(X86(8), 12)
    vbmi = "avx512vbmi" in features
    if isinstance(workload, DepthwiseWorkload):
        if "avx512vnni" in features:
            return Depthwise(16, partial(X86, vbmi=vbmi))
        return Depthwise(8, X86, dots="avxvnni" in features)
    if "amx-int8" in features and _suits_amx(workload):
        return Amx(vbmi)
    if "avx512vnni" in features:
        return vnni(vbmi)
    return avx_vnni() if "avxvnni" in features else avx2()


def _select_arm(workload: ConvWorkload, features: frozenset[str]) -> Template:
    if isinstance(workload.epilogue, FloatEpilogue):
        return fp32(Neon(), 24)
    if isinstance(workload, DepthwiseWorkload):
        if "i8mm" in features:
            return depthwise_usdot()
        return depthwise_sdot() if "dotprod" in features else DepthwiseColumns()
    step = step_of(workload)
    if "i8mm" in features:
        return usdot(step)
    return sdot(step) if "dotprod" in features else neon(step)


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
