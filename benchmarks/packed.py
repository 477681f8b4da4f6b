"""What weights of few bits take in the files of an artifact, and how long it takes to load.

    python benchmarks/packed.py                          # resnet20 and squeezenet, w8a8, w4a8, w3

``ledger``: bytes of all constants, weights at the width of their codes; ``stored``: those in
``lib.so``; ``unpacked``: memory that weights take once it is loaded.  ``load``: milliseconds from
the file to a function that can be called, median of copies that were not loaded before.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import setting

from qc import api
from qc.backends.codegen.artifact import LIBRARY, read_manifest
from qc.ir.text import DATA_FILE

NETWORKS = ("resnet20", "squeezenet")
RECIPES = ("w8a8", "w4a8", "w3")
COPIES = 21
HEADERS = (
    "network", "recipe", "ledger", "stored", "lib.so", DATA_FILE, "unpacked", "load ms",
)  # fmt: skip


def measure(name: str, recipe: str, target: str, folder: Path) -> list[object]:
    """Compile, and look at the files."""
    entry, out = setting.zoo().load(name), folder / "out"
    np.savez(folder / "calib.npz", **entry.calibration(128))
    job = api.Job(entry.path, target, recipe, folder / "calib.npz")
    report = api.compile_to_directory(job, out)
    manifest = read_manifest(out)
    sizes = [(out / file).stat().st_size for file in (LIBRARY, DATA_FILE)]
    return [name, recipe, report.bytes, manifest["constant_bytes"], *sizes,
            manifest["unpacked_bytes"], load_ms(out / LIBRARY, folder)]  # fmt: skip


def load_ms(library: Path, folder: Path) -> float:
    """The loader knows a file that it has loaded: each time it gets a copy."""
    times = []
    for number in range(COPIES):
        copy = shutil.copy(library, folder / f"copy{number}.so")
        started = perf_counter()
        ctypes.CDLL(str(copy), mode=os.RTLD_LAZY | os.RTLD_LOCAL)
        times.append(1e3 * (perf_counter() - started))
    return median(times)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("names", nargs="*", default=list(NETWORKS))
    top.add_argument("--recipe", action="append", choices=RECIPES, help="default: all")
    top.add_argument("--target", default="host")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    rows: list[list[object]] = []
    for name in args.names:
        for recipe in args.recipe or RECIPES:
            with tempfile.TemporaryDirectory(prefix="qc-packed-") as folder:
                rows.append(measure(name, recipe, args.target, Path(folder)))
    setting.conclude(HEADERS, rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
