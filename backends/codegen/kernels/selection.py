"""Which template serves a workload on a cpu, decided by the cpu's features alone."""

from .amx import Amx
from .avx2 import avx2
from .conv import ConvWorkload, collapse, runs_of
from .depthwise import Depthwise
from .depthwise_plan import DepthwiseWorkload
from .epilogue import FloatEpilogue
from .fp32 import fp32
from .template import Template
from .vnni import avx_vnni, vnni

_AMX_PIXELS = 4


def select(workload: ConvWorkload, features: frozenset[str]) -> Template:
    """The fastest template for ``workload``.

    ``features``: names as of LLVM ("amx-int8", "avx512vnni", "avx512vbmi", "avx512f", "avxvnni",
    "avx2"). Raises ValueError for a cpu without AVX2 and FMA.
    """
    if "avx2" not in features:
        raise ValueError(f"no x86 kernel template for a cpu without avx2: {sorted(features)}")
    if isinstance(workload.epilogue, FloatEpilogue):
        return fp32(16 if "avx512f" in features else 8)
    vbmi = "avx512vbmi" in features
    if isinstance(workload, DepthwiseWorkload):
        wide = "avx512vnni" in features
        return Depthwise(16, True, vbmi) if wide else Depthwise(8, "avxvnni" in features)
    if "amx-int8" in features and _suits_amx(workload):
        return Amx(vbmi)
    if "avx512vnni" in features:
        return vnni(vbmi)
    return avx_vnni() if "avxvnni" in features else avx2()


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
