"""What TVM's MetaSchedule finds beside qc's templates: single convolutions, on this machine.

    python benchmarks/searchers.py
    python benchmarks/searchers.py --seconds 600 --json figures.json

Both searchers measure the same workload; each then gives an artifact, and these are timed in turn
with the one by estimate.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import onnx
import setting
from operator_models import Convolution

from qc import api
from qc.backends.codegen.artifact import Artifact
from qc.scoring import peers
from qc.tuning import METASCHEDULE, TEMPLATES

OPERATORS = (
    Convolution(64, 64, 56, 3),
    Convolution(256, 64, 56, 1),
    Convolution(96, 96, 112, 3, 96),
)
HEADERS = (
    "operator", "by estimate us", "templates us", "kernels", "seconds", "metaschedule us",
    "schedules", "failed", "seconds", "templates / metaschedule",
)  # fmt: skip


def measure(operator: Convolution, seconds: float, contest: float, scratch: Path) -> list[object]:
    """The line of the table for one operator."""
    model = operator.ours()
    onnx.save(model.proto, str(scratch / "operator.onnx"))
    compiled = api.Job(scratch / "operator.onnx", database=scratch / "none.jsonl")
    api.compile_to_directory(compiled, scratch / "estimate")
    calls = {"estimate": Artifact.load(scratch / "estimate").runner(model.feed)}
    spent, counts = {}, {}
    for searcher in (TEMPLATES, METASCHEDULE):
        database, kept = scratch / f"{searcher}.jsonl", scratch / f"{searcher}.kept.jsonl"
        job = api.Job(scratch / "estimate", database=database, searcher=searcher)
        spent[searcher] = api.tune(job, seconds)["seconds"]
        counts[searcher] = _keep(database, kept, searcher == METASCHEDULE)
        job = api.Job(scratch / "operator.onnx", database=kept)
        report = api.compile_to_directory(job, scratch / searcher)
        assert report.tuning is not None
        assert report.tuning["recorded"] == 1
        calls[searcher] = Artifact.load(scratch / searcher).runner(model.feed)
    found = peers.Contest(calls, contest).medians()
    ours, theirs = found[TEMPLATES], found[METASCHEDULE]
    return [
        operator.name, 1e3 * found["estimate"], 1e3 * ours, counts[TEMPLATES][0],
        spent[TEMPLATES], 1e3 * theirs, *counts[METASCHEDULE], spent[METASCHEDULE], ours / theirs,
    ]  # fmt: skip


def _keep(database: Path, kept: Path, schedules: bool) -> tuple[int, int]:
    """Copy the records of schedules, or of all others; how many kernels, and how many failed."""
    lines = database.read_text().splitlines(keepends=True)
    chosen = [x for x in lines if (json.loads(x)["template"] == METASCHEDULE) == schedules]
    kept.write_text("".join(chosen))
    tables = [json.loads(x) for x in chosen]
    kernels = {json.dumps(t["knobs"]) for t in tables}
    return len(kernels), sum(1 for t in tables if t["error"])


def main() -> int:
    """Measure and print."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--seconds", type=float, default=900.0, help="of each search, at most")
    top.add_argument("--contest", type=float, default=5.0, help="seconds of timing at the end")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args()
    rows = []
    for operator in OPERATORS:
        with tempfile.TemporaryDirectory(prefix="qc-searchers-") as folder:
            rows.append(measure(operator, args.seconds, args.contest, Path(folder)))
        print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    print("\n" + setting.markdown(HEADERS, rows))
    data = [list(zip(HEADERS, row, strict=True)) for row in rows]
    setting.finish({"machine": setting.machine(), "operators": data}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
