"""Networks of the zoo with fewer than 8 bits: what each recipe loses, plain rounding beside it.

    python benchmarks/low_bits.py                        # resnet20 and squeezenet, all recipes
    python benchmarks/low_bits.py resnet20 --form w4a4 --max-drop 0.5
    python benchmarks/low_bits.py resnet20 vit_cifar10 --form w4a8 --allocated

``plain``: weights rounded to the nearest, biases left alone.  ``KiB``: constants with weights at
the width of their codes.  ``max-drop``: recipe w4a4 with bits raised until no more than so many
points are lost.  ``allocated``: so many bits a weight on average, by noises that are measured or
guessed.  ``seconds``: the whole compilation; ``allocating``: of these that of bits; ``differing``
counts values of the compiled code that are not those of the numpy reference.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import setting
from accuracy import Case, collect, compare

from qc import api
from qc.models import open_artifact
from qc.scoring.metrics import Sqnr

NETWORKS = ("resnet20", "squeezenet")
RECIPES = ("w8a8", "w6a6", "w4a8", "w4a4", "w3")
PLAIN = {"quantize.rounding": "nearest", "quantize.bias-samples": 0}
FORMS: dict[str, tuple[str, dict[str, object]]] = {
    **{f"{recipe} plain": (recipe, PLAIN) for recipe in RECIPES[1:]},
    **{recipe: (recipe, {}) for recipe in RECIPES},
}
ALLOCATED: dict[str, tuple[str, dict[str, object]]] = {
    f"w4a8 {mean:g} {how}": (
        "w4a8", {"allocate-bits.weights": mean, "allocate-bits.sensitivity": how}
    )
    for mean in (4.0, 3.5)
    for how in ("measured", "lim", "zscore")
}  # fmt: skip
START = "w4a4"
ALLOCATION = "allocate-bits"
HEADERS = (
    "network", "recipe", "bits of weights", "of activations", "KiB", "float", "compiled", "drop",
    "SQNR dB", "seconds", "allocating", "differing",
)  # fmt: skip


def measure(case: Case, form: str, max_drop: float | None, samples: int) -> list[object]:
    """Compile for this machine and judge the compiled code on the whole evaluation set."""
    recipe, options = (FORMS | ALLOCATED).get(form, (START, {}))
    out, labelled = case.folder / "out", case.folder / "labelled.npz"
    np.savez(labelled, **case.inputs, **case.targets)
    job = api.Job(
        case.entry.path, "host", recipe, case.folder / "calib.npz", options=options,
        evaluation=None if max_drop is None else labelled, max_drop=max_drop,
    )  # fmt: skip
    started = perf_counter()
    report = api.compile_to_directory(job, out)
    seconds = perf_counter() - started
    outputs = list(collect(open_artifact(out), case).values())
    ratio = Sqnr()
    ratio.update(case.real, outputs)
    before, after = (case.entry.score(x, case.targets) for x in (case.real, outputs))
    differing = str(compare(case, out, samples)).split(" values")[0]
    allocating = sum(float(str(r["seconds"])) for r in report.ledger if r["pass"] == ALLOCATION)
    bits = [_mean(report.layers, key) for key in ("weight_bits", "activation_bits")]
    return [case.name, form, *bits, report.bytes / 1024, before, after,
            100 * (before - after), ratio.db, seconds, allocating, differing]  # fmt: skip


def _mean(layers: Sequence[dict[str, object]], key: str) -> float:
    """The mean over layers with integers."""
    return float(np.mean([x[key] for x in layers if key in x]))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("names", nargs="*", default=list(NETWORKS))
    top.add_argument("--form", action="append", choices=list(FORMS), help="default: all")
    top.add_argument("--allocated", action="store_true", help="means of 4 and 3.5 bits, too")
    top.add_argument("--max-drop", type=float, metavar="POINTS", help="this one beside them")
    top.add_argument("--calib", type=int, default=128, metavar="N")
    top.add_argument("--limit", type=int, metavar="N", help="evaluate on the first N samples only")
    top.add_argument("--samples", type=int, default=4, metavar="N", help="for the comparison")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    rows: list[list[object]] = []
    for name in args.names:
        with tempfile.TemporaryDirectory(prefix="qc-low-bits-") as folder:
            case = Case(name, Path(folder))
            case.prepare(args.calib, args.limit)
            forms = [(form, None) for form in args.form or FORMS]
            forms += [(form, None) for form in ALLOCATED if args.allocated]
            if args.max_drop is not None:
                forms.append((f"max-drop {args.max_drop:g}", args.max_drop))
            for form, max_drop in forms:
                rows.append(measure(case, form, max_drop, args.samples))
                print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    setting.conclude(HEADERS, rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
