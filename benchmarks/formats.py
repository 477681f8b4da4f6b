"""Networks of the zoo in number formats: accuracy, SQNR, bits.

    python benchmarks/formats.py                         # three networks, all formats
    python benchmarks/formats.py vit_cifar10 --format mxfp4 --format bfp --reorder
    python benchmarks/formats.py stories260k --format w4-group --set encode.groups=best

``--format`` is a recipe (``bfp``, ``mxfp4``) or a number format for weights and activations
(inputs and caches then, too).  Whole evaluation sets; the network runs in onnxruntime by its
portable export, which ``--samples`` samples compare with the artifact.  ``drop`` is in points of
per cent, for perplexities in per cent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import setting
from accuracy import Case

from qc import api
from qc.compiler import QDQ_MODEL
from qc.models import open_artifact
from qc.passes.recipe import SHIPPED, recipe_names
from qc.scoring.metrics import Sqnr

NETWORKS = ("resnet20", "vit_cifar10", "stories260k")
FORMATS = (
    "bfp", "mxfp4", "mxint8", "mxfp8-e4m3", "mxfp8-e5m2", "mxfp6-e2m3", "mxfp6-e3m2", "bfp8-16",
    "bfp6-16", "bfp4-16", "int4-16", "e2m1-16", "e3m0-16", "e1m2-16",
)  # fmt: skip
ENCODE = 'name = "encode"'
HEADERS = (
    "network", "format", "bits per weight", "KiB", "metric", "float", "encoded", "drop", "SQNR dB",
    "export - artifact",
)  # fmt: skip


def recipe_of(case: Case, name: str, reorder: bool) -> Path:
    """A shipped recipe with one format for everything, or with ``reorder``, as a file."""
    shipped = SHIPPED / f"{name if name in recipe_names() else 'mxfp4'}.toml"
    text = shipped.read_text(encoding="utf-8")
    if shipped.stem != name:
        text = f'{text.partition(ENCODE)[0]}{ENCODE}\nweights = "{name}"\nactivations = "{name}"\n'
    if reorder:
        text = text.replace(ENCODE, f'name = "reorder"\n\n[[pass]]\n{ENCODE}')
    path = case.folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def measure(
    case: Case, name: str, samples: int, reorder: bool, options: dict[str, object]
) -> dict[str, object]:
    """Compile, run the export on the whole evaluation set, compare some samples."""
    out = case.folder / name
    recipe = recipe_of(case, name, reorder)
    calibration = case.folder / "calib.npz"
    job = api.Job(case.entry.path, recipe=str(recipe), calibration=calibration, options=options)
    api.compile_to_directory(job, out)
    row = json.loads((out / "report.json").read_text())["ledger"][-1]
    outputs = setting.zoo().run(out / QDQ_MODEL, case.inputs)
    ratio = Sqnr()
    ratio.update(case.real, outputs)
    before = case.entry.score(case.real, case.targets)
    after = case.entry.score(outputs, case.targets)
    better = case.entry.higher_is_better
    return {
        "bits": row["statistics"]["bits_per_weight"],
        "KiB": row["bytes"] / 1024,
        "metric": case.entry.metric,
        "float": before,
        "encoded": after,
        "drop": 100 * (before - after if better else after / before - 1),
        "sqnr_db": ratio.db,
        "difference": _difference(case, out, outputs, samples),
    }


def _difference(case: Case, out: Path, outputs: Sequence[np.ndarray], samples: int) -> float:
    """Greatest difference of the artifact's outputs from the export's, over the greatest output."""
    model = open_artifact(out)
    worst = np.zeros(())
    for i in range(samples):
        found = model.run({k: v[i : i + 1] for k, v in case.inputs.items()})
        for name, expected in zip(model.outputs, outputs, strict=True):
            gap = np.abs(found[name] - expected[i : i + 1]).max() / np.abs(expected).max()
            worst = np.maximum(worst, gap)  # which keeps what is not a number
    return float(worst)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("names", nargs="*", default=list(NETWORKS))
    top.add_argument("--format", action="append", help="default: all of the table")
    top.add_argument("--reorder", action="store_true", help="with the pass reorder before")
    top.add_argument("--set", action="append", metavar="PASS.OPTION=VALUE", default=[])
    top.add_argument("--calib", type=int, default=128, metavar="N")
    top.add_argument("--limit", type=int, metavar="N", help="evaluate on the first N samples only")
    top.add_argument("--samples", type=int, default=2, metavar="N", help="for the comparison")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    options: dict[str, object] = dict(pair.split("=", 1) for pair in args.set)
    found: dict[str, object] = {}
    rows: list[list[object]] = []
    for network in args.names:
        with tempfile.TemporaryDirectory(prefix="qc-formats-") as folder:
            case = Case(network, Path(folder))
            case.prepare(args.calib, args.limit)
            for name in args.format or FORMATS:
                one = measure(case, name, args.samples, args.reorder, options)
                found[f"{network} {name}"] = one
                rows.append([network, name, *one.values()])
                print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    print("\n" + setting.markdown(HEADERS, rows))
    setting.finish({"machine": setting.machine(), "results": found}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
