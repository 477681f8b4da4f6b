"""What tuning and a second thread gain: networks of the zoo, on this machine.

    python benchmarks/tuning.py                         # all of them, 300 s each at most
    python benchmarks/tuning.py mobilenet_v2 --seconds 60 --json figures.json

`untuned / tuned` is the speed of the defaults as a part of the tuned speed, from interleaved runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import setting

from qc import api
from qc.backends.codegen.artifact import Artifact
from qc.models import manifest_specs
from qc.scoring import peers

HEADERS = (
    "network", "untuned ms", "tuned ms", "untuned / tuned", "workloads", "kernels", "failed",
    "left", "seconds", "2 threads ms", "1 thread / 2",
)  # fmt: skip


def measure(name: str, seconds: float, scratch: Path) -> list[object]:
    """The line of the table for one network."""
    entry, calibration = setting.zoo().load(name), scratch / "calib.npz"
    np.savez(calibration, **entry.calibration(32))
    database = scratch / "db.jsonl"
    job = api.Job(entry.path, calibration=calibration, database=scratch / "none.jsonl")
    api.compile_to_directory(job, scratch / "untuned")
    found = api.tune(api.Job(scratch / "untuned", database=database), seconds)
    api.compile_to_directory(replace(job, database=database), scratch / "tuned")
    calls: dict[str, peers.Call] = {}
    for key, folder, threads in (
        ("untuned", "untuned", 1), ("tuned", "tuned", 1), ("two", "tuned", 2),
    ):  # fmt: skip
        artifact = Artifact.load(scratch / folder, threads)
        feed = peers.noise(manifest_specs(artifact.manifest), 1)[0]
        calls[key] = artifact.runner(feed)
    one = peers.Contest({k: calls[k] for k in ("untuned", "tuned")}, 4.0).medians()
    two = peers.Contest({k: calls[k] for k in ("tuned", "two")}, 4.0).medians()
    workloads = found["workloads"]
    assert isinstance(workloads, list)
    counts = [sum(w[key] for w in workloads) for key in ("measured", "failed", "left")]
    return [
        name, one["untuned"], one["tuned"], one["tuned"] / one["untuned"], len(workloads), *counts,
        found["seconds"], two["two"], two["tuned"] / two["two"],
    ]  # fmt: skip


def main() -> int:
    """Measure and print."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("networks", nargs="*", default=list(setting.ZOO_NAMES))
    top.add_argument("--seconds", type=float, default=300.0, help="of tuning, at most")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args()
    rows = []
    for name in args.networks:
        with tempfile.TemporaryDirectory(prefix="qc-tuning-") as scratch:
            rows.append(measure(name, args.seconds, Path(scratch)))
        print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    print(setting.markdown(HEADERS, rows))
    data = [dict(zip(HEADERS, row, strict=True)) for row in rows]
    setting.finish({"machine": setting.machine(), "networks": data}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
