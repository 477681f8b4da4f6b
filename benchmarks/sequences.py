"""Sequence networks of the zoo in int8 against float: what each loses, beside what it may lose.

    python benchmarks/sequences.py                     # all networks and forms
    python benchmarks/sequences.py silero_vad --calib 64 --recipe int8-dynamic

``drop`` is in points of per cent, for a perplexity in per cent of the float network's; the bar is
one of either.  ``differing`` counts values of the compiled code that are not those of the numpy
reference.  Float is the zoo's ONNX file in onnxruntime, for every form of a network.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import accuracy
import setting

from qc import api
from qc.ir.errors import QcError
from qc.models import open_artifact

BAR = 1.0
"""Points, or per cent of perplexity, that a network may lose."""

HEADERS = ("network", "form", "metric", "float", "compiled", "drop", "within the bar", "differing")


@dataclass(frozen=True)
class Form:
    """A file of a network: the zoo's entry that has its data, and what the form is called."""

    network: str
    name: str
    file: str = ""

    @property
    def label(self) -> str:
        """Unique among all forms."""
        return f"{self.network} {self.name}"


FORMS = (
    Form("silero_vad", "ONNX"),
    Form("stories260k", "ONNX"),
    Form("vit_cifar10", "ONNX"),
    Form("vit_cifar10", ".pt2", "vit_cifar10.pt2"),
    Form("mamba_shakespeare", "Scan"),
    Form("mamba_shakespeare_plain", "plain ops"),
    Form("mamba_shakespeare", ".pt2", "mamba_shakespeare.pt2"),
)


def measure(form: Form, recipe: str, calib: int, samples: int) -> dict[str, object]:
    """Compile one form for this machine and judge it on the whole evaluation set."""
    with tempfile.TemporaryDirectory(prefix="qc-sequences-") as folder:
        case = accuracy.Case(form.network, Path(folder))
        case.prepare(calib, None)
        path = case.entry.path
        data = None if recipe == "int8-dynamic" else case.folder / "calib.npz"
        job = api.Job(path.with_name(form.file) if form.file else path, "host", recipe, data)
        out = case.folder / "out"
        api.compile_to_directory(job, out)
        before = case.entry.score(case.real, case.targets)
        outputs = list(accuracy.collect(open_artifact(out), case).values())
        after = case.entry.score(outputs, case.targets)
        return {
            "metric": case.entry.metric,
            "float": before,
            "compiled": after,
            "drop": drop(case.entry.metric, before, after),
            "differing": str(accuracy.compare(case, out, samples)),
        }


def drop(metric: str, before: float, after: float) -> float:
    """Points of per cent; of a perplexity how many per cent it has risen."""
    return 100 * (after / before - 1) if metric == "perplexity" else 100 * (before - after)


def row(form: Form, found: dict[str, object]) -> list[object]:
    """The line of the table."""
    values = [found[k] for k in ("metric", "float", "compiled", "drop")]
    within = "yes" if found["drop"] <= BAR else "**no**"  # type: ignore[operator]
    differing = str(found["differing"]).split(" values")[0]
    return [form.network, form.name, *values, within, differing]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; 1 where a network misses its bar."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("names", nargs="*", help="networks; default: all")
    top.add_argument("--recipe", default="int8")
    top.add_argument("--calib", type=int, default=128, metavar="N")
    top.add_argument("--samples", type=int, default=4, metavar="N", help="for the comparison")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    found: dict[str, object] = {}
    rows: list[list[object]] = []
    failed = 0
    for form in FORMS:
        if args.names and form.network not in args.names:
            continue
        try:
            one = measure(form, args.recipe, args.calib, args.samples)
        except QcError as error:
            found[form.label], failed = {"error": str(error)}, failed + 1
            print(f"{form.label}: {error}", file=sys.stderr)
            continue
        found[form.label] = one
        rows.append(row(form, one))
        failed += rows[-1][6] != "yes"
        print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    print("\n" + setting.markdown(HEADERS, rows))
    setting.finish({"machine": setting.machine(), "results": found}, args.json)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
