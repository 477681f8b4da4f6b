"""What equalization is worth below a scale per channel: every solver, and none, at several widths.

    python benchmarks/equalizers.py                                # the ViT with outlier channels
    python benchmarks/equalizers.py stories260k --recipe w8a8 --solver best --solver smooth

``plain`` is the recipe without ``equalize``.  The quantized network runs in onnxruntime, over the
whole evaluation set; nothing is left float for its speed.  ``drop`` is in points of per cent, of a
perplexity in per cent; ``bar`` is what ``best`` may lose; ``float layers`` are products that
``choose-precision`` kept, since their codes made too much of the noise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import setting
from accuracy import Case
from sequences import drop

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.compiler import prepare
from qc.data.dataset import Dataset, specs_of
from qc.job import Job
from qc.passes.equalizing.solvers import SOLVERS
from qc.passes.recipe import SHIPPED
from qc.progress import Silent
from qc.scoring import runs as scoring
from qc.scoring.metrics import Sqnr
from qc.targets import load

PLAIN, BEST = "plain", "best"
NETWORK = "vit_cifar10_outliers"
RECIPES = ("w8a8", "w6a6", "w4a4")
BARS = {("w8a8", NETWORK): 0.5, ("w6a6", NETWORK): 1.5, ("w4a4", NETWORK): 6.0}
EQUALIZE = '[[pass]]\nname = "equalize"\n'
HEADERS = (
    "network", "recipe", "solver", "metric", "float", "quantized", "drop", "bar", "SQNR dB",
    "float layers", "equalize s",
)  # fmt: skip


def measure(case: Case, recipe: str, solver: str) -> tuple[list[object], Counter[str]]:
    """The line of the table; how many sites each solver was given."""
    text = (SHIPPED / f"{recipe}.toml").read_text(encoding="utf-8")
    if EQUALIZE not in text:
        sys.exit(f"recipe {recipe} has no equalize to take away")
    chosen = "" if solver == PLAIN else f'{EQUALIZE}solvers = "{solver}"\n'
    path = case.folder / f"{recipe}.toml"
    path.write_text(text.replace(EQUALIZE, chosen), encoding="utf-8")
    job = Job(case.entry.path, recipe=str(path), calibration=case.folder / "calib.npz")
    prepared = prepare(job, load("host"), None, Silent())
    graph = prepared.stages.quantized
    names = [v.name for v in graph.outputs]
    run = OnnxRuntimeExecutor().open(graph, names)
    data = Dataset(case.folder / "eval.npz", specs_of(graph))
    found = list(scoring.collect(run, names, data).values())
    ratio = Sqnr()
    ratio.update(case.real, found)
    metric = case.entry.metric
    before, after = (case.entry.score(x, case.targets) for x in (case.real, found))
    seconds = sum(row.seconds for row in prepared.ledger.rows if row.name == "equalize")
    bar = BARS.get((recipe, case.name)) if solver == BEST else None
    row = [
        case.name, recipe, solver, metric, before, after, drop(metric, before, after), bar,
        ratio.db, len(prepared.context.chosen_float), seconds,
    ]  # fmt: skip
    return row, Counter(e.solver for e in prepared.context.equalized)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; 1 where the best solvers miss a bar."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("names", nargs="*", default=[NETWORK])
    top.add_argument("--recipe", action="append", help="default: w8a8, w6a6, w4a4")
    top.add_argument("--solver", action="append", help="default: plain, every solver, best")
    top.add_argument("--calib", type=int, default=128, metavar="N")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    rows: list[list[object]] = []
    sites: dict[str, dict[str, int]] = {}
    missed = 0
    for name in args.names:
        with tempfile.TemporaryDirectory(prefix="qc-equalizers-") as folder:
            case = Case(name, Path(folder))
            case.prepare(args.calib, None)
            for recipe in args.recipe or RECIPES:
                for solver in args.solver or (PLAIN, *SOLVERS, BEST):
                    row, taken = measure(case, recipe, solver)
                    rows.append(row)
                    missed += row[7] is not None and not np.less_equal(row[6], row[7])
                    if solver == BEST:
                        sites[f"{name} {recipe}"] = dict(taken.most_common())
                    print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    print("\n" + setting.markdown(HEADERS, rows))
    for where, taken in sites.items():
        print(f"{where}: {', '.join(f'{k} {n}' for k, n in taken.items())} sites")
    results = [dict(zip(HEADERS, row, strict=True)) for row in rows]
    setting.finish({"machine": setting.machine(), "results": results, "sites": sites}, args.json)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
