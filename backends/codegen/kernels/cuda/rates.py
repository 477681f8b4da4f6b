"""What an estimate of a kernel's time rests on: cycles of a multiprocessor, from data sheets.

Nobody has measured them here: they order the knobs of one template, and say nothing of seconds.
"""

PROCESSORS = 80.0
RESIDENT = 16.0
"""Blocks that a processor runs at once."""

LAUNCH = 3000.0
CHUNK = 90.0
"""From the load of a chunk to the end of its products, with the next ones on their way."""

IMMA = 2.0
"""One mma.m16n8k32."""

DOT = 0.5
"""One dp4a, or float32 multiply-add, of a warp."""

L1 = 64.0
"""Bytes a cycle."""

FINISH = 8.0
"""The epilogue of one accumulator of a warp."""


def cycles(blocks: int, chain: float, work: float) -> float:
    """Cycles of a kernel whose blocks take ``chain`` alone and ``work`` of a busy processor."""
    waves = max(1.0, blocks / (RESIDENT * PROCESSORS))
    return LAUNCH + max(waves * chain, blocks * work / PROCESSORS)
