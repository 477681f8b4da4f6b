"""Pruning to a latency: whether it is met, and what it keeps beside a budget of MACs as fast.

    python benchmarks/latency_budget.py                                # mobilenet_v2, squeezenet
    python benchmarks/latency_budget.py resnet20 --latency 0.5

Latencies are medians, interleaved in one process, relative to the unpruned int8 artifact.  The
budget of MACs is searched for until its artifact is as fast.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import setting
from accuracy import Case, judge

from qc import api
from qc.backends.codegen.artifact import Artifact
from qc.data.dataset import Dataset, specs_of
from qc.models import manifest_specs
from qc.scoring import peers

HEADERS = ("network", "artifact", "MACs", "latency", "ms", "metric", "compile s")
TRIES = 3


def compiled(case: Case, name: str, recipe: str, options: dict[str, object], target: str) -> Path:
    """An artifact of one network; times come from this machine."""
    out = case.folder / name
    job = api.Job(
        case.entry.path, target, recipe, case.folder / "calib.npz", options=options,
        database=case.folder / "kernels.jsonl",
    )  # fmt: skip
    api.compile_to_directory(job, out)
    return out


def medians(case: Case, outs: Sequence[Path], seconds: float) -> list[float]:
    """Milliseconds of each, interleaved."""
    graph = api.load(case.entry.path, input_shapes=_shapes(outs[0]))
    feed = dict(next(iter(Dataset(case.folder / "calib.npz", specs_of(graph)))))
    calls = {out.name: Artifact.load(out, 1).runner(feed) for out in outs}
    found = peers.Contest(calls, seconds).medians()
    return [found[out.name] for out in outs]


def _shapes(out: Path) -> dict[str, tuple[int, ...]]:
    manifest = json.loads((out / "manifest.json").read_text())
    return {s.name: s.shape for s in manifest_specs(manifest)}


def measure(case: Case, part: float, target: str, seconds: float) -> list[list[object]]:
    """The rows of one network."""
    whole = compiled(case, "int8", "int8", {}, target)
    timed = compiled(case, "latency", "prune-int8", {"prune-channels.latency": part}, target)
    base, fast = medians(case, [whole, timed], seconds)
    kept = _report(timed)["macs"] / _report(whole)["macs"]
    for n in range(TRIES):
        counted = compiled(
            case, f"macs{n}", "prune-int8", {"prune-channels.macs": round(kept, 4)}, target
        )
        base, fast, other = medians(case, [whole, timed, counted], seconds)
        if abs(other / fast - 1) < 0.02:
            break
        kept *= fast / other
    rows = []
    for out, time in ((whole, base), (timed, fast), (counted, other)):
        told, judged = _report(out), judge(case, out)
        share = told["macs"] / _report(whole)["macs"]
        rows.append(
            [case.name, out.name, share, time / base, time, judged["compiled"], told["seconds"]]
        )
        print(*rows[-1], flush=True)
    return rows


def _report(out: Path) -> dict[str, float]:
    return json.loads((out / "report.json").read_text())  # type: ignore[no-any-return]


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["mobilenet_v2", "squeezenet"])
    parser.add_argument("--latency", type=float, default=0.75)
    parser.add_argument("--target", default="host")
    parser.add_argument("--calib", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()
    rows: list[list[object]] = []
    for name in args.names:
        with tempfile.TemporaryDirectory(prefix="qc-latency-") as folder:
            case = Case(name, Path(folder))
            case.prepare(args.calib, None)
            print(f"{name}: float {case.entry.score(case.real, case.targets):.4f}", flush=True)
            rows += measure(case, args.latency, args.target, args.seconds)
    print("\n" + setting.markdown(HEADERS, rows))
    print(setting.machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
