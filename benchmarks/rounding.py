"""Time of second-order rounding (GPTQ) of large layers, by size and order of columns.

    python benchmarks/rounding.py                    # 1024, 2048, 4096
    python benchmarks/rounding.py 4096 --order best

Rows and columns are of one number; the inputs are correlated.  ``lost`` is the noise of the results
over that of rounding to the nearest, with 4 bits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import setting

from qc.ir.types import Array
from qc.passes.rounding.second_order import BEST, ORDERS, second_order

HEADERS = ("size", "order", "seconds", "lost")
TOP = 7


def measure(size: int, order: str) -> list[object]:
    """One layer of ``size x size``."""
    rng = np.random.default_rng(0)
    rows = rng.standard_t(5, (1, size, size))
    mixed = rng.normal(size=(2 * size, size)) * rng.lognormal(0.0, 1.0, size)
    x = mixed + mixed[:, rng.permutation(size)]
    covariance = (x.T @ x / len(x))[None]
    scale = np.abs(rows).max(2) / TOP
    started = perf_counter()
    codes = second_order(rows, scale, covariance, len(x), TOP, order)
    seconds = perf_counter() - started
    nearest = np.clip(np.rint(rows / scale[..., None]), -TOP, TOP)
    ours, plain = (_noise(c * scale[..., None] - rows, covariance) for c in (codes, nearest))
    return [size, order, seconds, ours / plain]


def _noise(error: Array, covariance: Array) -> float:
    return float(np.einsum("gok,gok->", error @ covariance, error))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("sizes", nargs="*", type=int, default=[1024, 2048, 4096])
    top.add_argument("--order", action="append", choices=[*ORDERS, BEST], help="default: all")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    rows: list[list[object]] = []
    for size in args.sizes:
        for order in args.order or [*ORDERS, BEST]:
            rows.append(measure(size, order))
            print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    setting.conclude(HEADERS, rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
