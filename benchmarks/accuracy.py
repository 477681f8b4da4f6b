"""Accuracy of compiled networks of the zoo: drop, SQNR, exactness, and the portable export.

    python benchmarks/accuracy.py                # the zoo, recipes int8 and int8-dynamic
    python benchmarks/accuracy.py resnet20 --recipe int8 --targets x86,x86-vnni,x86-amx --samples 16

``drop`` is in points of per cent; ``differing`` counts values of the compiled code that are not
those of the numpy reference; ``export agrees`` is the share of samples that the Q/DQ export decides
alike in onnxruntime (classifiers only).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import setting

from qc import api
from qc.compiler import QDQ_MODEL
from qc.data.dataset import Dataset
from qc.ir.errors import QcError
from qc.models import Model, open_artifact, open_reference
from qc.scoring import runs as scoring
from qc.scoring.metrics import Sqnr, choices

HEADERS = (
    "network",
    "recipe",
    "metric",
    "float",
    "compiled",
    "drop",
    "SQNR dB",
    "export agrees",
    "differing",
)


@dataclass
class Case:
    """One network of the zoo with its files."""

    name: str
    folder: Path
    entry: Any = field(init=False)
    inputs: dict[str, np.ndarray] = field(init=False)
    targets: dict[str, np.ndarray] = field(init=False)
    real: list[np.ndarray] = field(init=False)

    def prepare(self, calib: int, limit: int | None) -> None:
        """Write the data and run the float network."""
        zoo = setting.zoo()
        self.entry = zoo.load(self.name)
        np.savez(self.folder / "calib.npz", **self.entry.calibration(calib))
        inputs, self.targets = self.entry.evaluation()
        self.inputs = {k: v[:limit] for k, v in inputs.items()}
        if limit is not None:
            self.targets = {k: v[:limit] for k, v in self.targets.items()}
        np.savez(self.folder / "eval.npz", **self.inputs)
        self.real = zoo.run(self.entry.path, self.inputs)


def measure(case: Case, recipe: str, targets: Sequence[str], samples: int) -> dict[str, object]:
    """Compile for all targets and compare with the reference; the first one is judged."""
    calibration = case.folder / "calib.npz" if recipe != "int8-dynamic" else None
    differing = {}
    result: dict[str, object] = {}
    for target in targets:
        out = case.folder / f"{recipe}-{target}"
        api.compile_to_directory(api.Job(case.entry.path, target, recipe, calibration), out)
        if not result:
            result = judge(case, out)
        differing[target] = str(compare(case, out, samples))
    return {**result, "differing": differing}


def judge(case: Case, out: Path) -> dict[str, object]:
    """Metric, SQNR and agreement of the export over the whole evaluation set."""
    model = open_artifact(out)
    outputs = list(collect(model, case).values())
    ratio = Sqnr()
    ratio.update(case.real, outputs)
    before, after = (
        case.entry.score(case.real, case.targets),
        case.entry.score(outputs, case.targets),
    )
    exported = setting.zoo().run(out / QDQ_MODEL, case.inputs, optimise=True)
    same = None
    if case.entry.metric == "top1":
        same = float((choices(outputs[0], 1) == choices(exported[0], 1)).mean())
    return {
        "metric": case.entry.metric,
        "float": before,
        "compiled": after,
        "drop": 100 * (before - after) * (1 if case.entry.higher_is_better else -1),
        "sqnr_db": ratio.db,
        "export_agrees": same,
    }


def collect(model: Model, case: Case) -> Mapping[str, np.ndarray]:
    """All outputs of a model on the evaluation set."""
    data = Dataset(case.folder / "eval.npz", model.specs)
    return scoring.collect(model.run, model.outputs, data)


def compare(case: Case, out: Path, samples: int) -> scoring.Difference:
    """Compiled code against the numpy reference, on a few samples."""
    compiled, reference = open_artifact(out), open_reference(out)
    found = scoring.Difference()
    for _, feed in zip(
        range(samples), Dataset(case.folder / "eval.npz", compiled.specs), strict=False
    ):
        found.update(compiled.run(feed), reference.run(feed))
    return found


def row(name: str, recipe: str, found: dict[str, object]) -> list[object]:
    """The line of the table."""
    differing = found["differing"]
    assert isinstance(differing, dict)
    text = "; ".join(f"{k}: {v.split(' values')[0]}" for k, v in differing.items())
    keys = ("metric", "float", "compiled", "drop", "sqnr_db", "export_agrees")
    return [name, recipe, *(found[k] for k in keys), text]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("names", nargs="*", default=list(setting.ZOO_NAMES))
    top.add_argument("--recipe", action="append", help="default: int8 and int8-dynamic")
    top.add_argument(
        "--targets", default="host", help="separated by commas; the first one is judged"
    )
    top.add_argument("--calib", type=int, default=128, metavar="N")
    top.add_argument("--samples", type=int, default=16, metavar="N", help="for the comparison")
    top.add_argument("--limit", type=int, metavar="N", help="evaluate on the first N samples only")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    found: dict[str, object] = {}
    rows: list[list[object]] = []
    for name in args.names:
        with tempfile.TemporaryDirectory(prefix="qc-accuracy-") as folder:
            case = Case(name, Path(folder))
            case.prepare(args.calib, args.limit)
            for recipe in args.recipe or ("int8", "int8-dynamic"):
                try:
                    one = measure(case, recipe, args.targets.split(","), args.samples)
                except QcError as error:
                    found[f"{name} {recipe}"] = {"error": str(error)}
                    print(f"{name} {recipe}: {error}", file=sys.stderr)
                    continue
                found[f"{name} {recipe}"] = one
                rows.append(row(name, recipe, one))
                print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    print("\n" + setting.markdown(HEADERS, rows))
    setting.finish({"machine": setting.machine(), "results": found}, args.json)
    return int(any("error" in one for one in found.values() if isinstance(one, dict)))


if __name__ == "__main__":
    sys.exit(main())
