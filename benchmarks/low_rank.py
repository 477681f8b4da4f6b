"""What low-rank compensation is worth beside the same bytes spent on bits of weights.

    python benchmarks/low_rank.py                          # resnet20 and the ViT, w4a8 and w3
    python benchmarks/low_rank.py vit_cifar10_outliers --recipe w4a8 --share 0.1

``plain`` is the recipe; ``rank N`` gives every layer a branch of that rank; ``branches`` spends so
large a share of the constants' bytes on branches of the ranks that serve best, ``bits`` the same
share on more bits for the weights of some layers (``allocate-bits``).  The quantized network runs
in onnxruntime, over the whole evaluation set.  ``KiB``: constants at the width of their codes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import setting
from accuracy import Case
from sequences import drop

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.compiler import prepare
from qc.data.dataset import Dataset, specs_of
from qc.job import Job
from qc.passes.quantize import coder_in
from qc.passes.recipe import SHIPPED, load_recipe
from qc.progress import Silent
from qc.scoring import runs as scoring
from qc.scoring.metrics import Sqnr
from qc.targets import load

NETWORKS = ("resnet20", "vit_cifar10")
RECIPES = ("w4a8", "w3")
FOLD = '[[pass]]\nname = "fold-integers"\n'
COMPENSATE = '[[pass]]\nname = "compensate-low-rank"\n'
HEADERS = (
    "network", "recipe", "form", "branches", "sum of ranks", "KiB", "metric", "float", "quantized",
    "drop", "SQNR dB", "pass s",
)  # fmt: skip


Form = tuple[str, dict[str, object]]
"""What to put in front of ``fold-integers``, and options of the recipe."""


def forms(recipe: str, ranks: Sequence[int], share: float) -> dict[str, Form]:
    """The forms to compare, by name."""
    coder = coder_in(load_recipe(recipe).passes)
    assert coder is not None
    bits = round(coder.weight_bits * (1 + share), 3)
    return {
        "plain": ("", {}),
        **{f"rank {rank}": (f"{COMPENSATE}rank = {rank}\n", {}) for rank in ranks},
        f"branches +{share:.0%}": (f"{COMPENSATE}rank = 64\nbytes = {share}\n", {}),
        f"bits +{share:.0%}": ("", {"allocate-bits.weights": bits}),
    }


def measure(case: Case, recipe: str, name: str, form: Form) -> list[object]:
    """The line of the table."""
    extra, options = form
    text = (SHIPPED / f"{recipe}.toml").read_text(encoding="utf-8")
    path = case.folder / f"{recipe}.toml"
    path.write_text(text.replace(FOLD, f"{extra}\n{FOLD}"), encoding="utf-8")
    job = Job(
        case.entry.path, recipe=str(path), calibration=case.folder / "calib.npz", options=options
    )
    prepared = prepare(job, load("host"), None, Silent())
    stages = prepared.stages
    names = [v.name for v in stages.quantized.outputs]
    run = OnnxRuntimeExecutor().open(stages.quantized, names)
    data = Dataset(case.folder / "eval.npz", specs_of(stages.quantized))
    found = list(scoring.collect(run, names, data).values())
    ratio = Sqnr()
    ratio.update(case.real, found)
    metric = case.entry.metric
    before, after = (case.entry.score(x, case.targets) for x in (case.real, found))
    own = next((r for r in prepared.ledger.rows if r.name == "compensate-low-rank"), None)
    return [
        case.name, recipe, name, own.rewrites if own else None,
        own.statistics["ranks"] if own else None, prepared.ledger.rows[-1].bytes / 1024, metric,
        before, after, drop(metric, before, after), ratio.db, own.seconds if own else None,
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("names", nargs="*", default=list(NETWORKS))
    top.add_argument("--recipe", action="append", help="default: w4a8, w3")
    top.add_argument("--rank", action="append", type=int, metavar="N", help="default: 4, 16")
    top.add_argument("--share", type=float, default=0.1, metavar="S", help="of the bytes")
    top.add_argument("--calib", type=int, default=128, metavar="N")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    rows: list[list[object]] = []
    for name in args.names:
        with tempfile.TemporaryDirectory(prefix="qc-low-rank-") as folder:
            case = Case(name, Path(folder))
            case.prepare(args.calib, None)
            for recipe in args.recipe or RECIPES:
                for form, how in forms(recipe, args.rank or (4, 16), args.share).items():
                    rows.append(measure(case, recipe, form, how))
                    print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    setting.conclude(HEADERS, rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
