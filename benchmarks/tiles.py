"""Tile instructions of single operators for x86-amx, counted where they are emulated.

    python benchmarks/tiles.py                         # needs a cpu that lacks only AMX's tiles
    python benchmarks/tiles.py --networks resnet20 vww # of one run of networks of the zoo

Needs objdump and llvm-mca, as inner_loops.py does.  The operators of operators.py that have such
kernels are compiled, untuned, run once on the emulated tiles and compared with the integer
reference.  `products`, `loads`, `stores` are the instructions that were executed.  What they take
at least, in thousands of cycles, follows from their rows: a product a cycle a row (which is as many
as there are 1024 multiply-accumulates), a load half of one, a store one (Intel's optimization
manual); the epilogue is by llvm-mca's model, its data in the first cache.  `of peak` is what the
products take over what they, stores and epilogue take in turn.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import setting
from inner_loops import assembly, cycles, innermost
from operator_models import Array
from operators import OPERATORS, Operator

from qc import api
from qc.backends.codegen import tile_registers
from qc.backends.codegen.artifact import Artifact
from qc.ir.errors import QcError
from qc.ir.evaluate import evaluate
from qc.ir.text import load as load_graph
from qc.targets import load

TARGET = "x86-amx"
CPU = "icelake-server"
"""Two units for 512 bits, as servers with AMX have; LLVM's model of these has one."""

HEADERS = (
    "operator", "products", "loads", "stores", "products, kcycles", "loads, kcycles",
    "stores, kcycles", "epilogue, kcycles", "of peak",
)  # fmt: skip


Counts = list[tuple[int, int]]
"""Products, loads and stores that were executed, and their rows."""


def counted(name: str, out: Path, feed: Mapping[str, Array]) -> Counts:
    """Of one run of an artifact; ``QcError`` where a code is wrong."""
    artifact = Artifact.load(out)
    before = tile_registers.counts()
    got = artifact.run(feed)
    after = tile_registers.counts()
    if any(not np.array_equal(got[k], v) for k, v in evaluate(load_graph(out), feed).items()):
        raise QcError(f"{name} for {TARGET}: values differ from the reference")
    kinds = ("tdp", "tileload", "tilestore")
    return [(after[k][0] - before[k][0], after[k][1] - before[k][1]) for k in kinds]


def epilogue(library: Path) -> float:
    """Cycles of a vector of sums, in the loop that requantizes most of them."""
    loops = [[assembly(line) for line in lines] for lines in innermost(library)]
    vectors = [sum("vcvtdq2ps" in line for line in lines) for lines in loops]
    most = max(range(len(loops)), key=vectors.__getitem__)
    return cycles(loops[most], CPU) / vectors[most]


def row(operator: Operator, folder: Path) -> list[object] | None:
    """One line of the table; None for an operator without tiles."""
    model = operator.ours()
    onnx.save(model.proto, str(folder / "operator.onnx"))
    api.compile_to_directory(api.Job(folder / "operator.onnx", TARGET), folder / "out")
    found = counted(operator.name, folder / "out", model.feed)
    (_, products), (_, loads), (_, stores) = found
    if not products:
        return None
    after = stores * epilogue(folder / "out" / "lib.so")  # a row of sums is a vector
    taken = [products, loads / 2, stores, after]
    share = products / (products + stores + after)
    return [operator.name, *(n for n, _ in found), *(t / 1e3 for t in taken), share]


def network(name: str, folder: Path) -> list[object]:
    """The line of a network of the zoo: instructions of one sample."""
    entry = setting.zoo().load(name)
    np.savez(folder / "calib.npz", **entry.calibration(64))
    job = api.Job(entry.path, TARGET, "int8", folder / "calib.npz")
    api.compile_to_directory(job, folder / "out")
    inputs, _ = entry.evaluation()
    found = counted(name, folder / "out", {k: v[:1] for k, v in inputs.items()})
    return [name, *(n for n, _ in found)]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--networks", nargs="*", default=[], metavar="NAME")
    args = top.parse_args(argv)
    if not load(TARGET).emulated:
        print(f"{TARGET} is not emulated here: nothing to count")
        return 1
    rows = []
    for item in args.networks or OPERATORS:
        with tempfile.TemporaryDirectory(prefix="qc-tiles-") as folder:
            make = network if isinstance(item, str) else row
            if (line := make(item, Path(folder))) is not None:
                rows.append(line)
    print(setting.markdown(HEADERS[: len(rows[0])], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
