"""What an estimate of a kernel's time rests on: cycles of a multiprocessor, from data sheets.

Nobody has measured them here: they order the knobs of one template, and say nothing of seconds.
"""

PROCESSORS = 80.0
RESIDENT = 32.0
"""Warps that a processor runs at once."""

LAUNCH = 3000.0
CHUNK = 150.0
"""From the load of a chunk to its use, with the next one on its way."""

QUARTERS = 4.0
"""Of a processor; a warp has the units of one of them."""

IMMA = 2.0
"""One mma.m16n8k32 on all quarters together."""

DOT = 0.5
"""One dp4a, or float32 multiply-add, of a warp, likewise."""

L1 = 64.0
"""Bytes a cycle."""

FINISH = 8.0
"""The epilogue of one accumulator of a warp."""


def cycles(warps: float, chain: float, work: float) -> float:
    """Cycles of a kernel whose warps take ``chain`` alone and ``work`` of a busy processor."""
    waves = max(1.0, warps / (RESIDENT * PROCESSORS))
    return LAUNCH + max(waves * chain, warps * work / PROCESSORS)
