"""The compiled selective scan beside onnxruntime's Scan, interleaved, and how far both are apart.

    python benchmarks/selective_scan.py
    python benchmarks/selective_scan.py --sizes 1x512x512x16 --threads 2 --json figures.json

A size is batch x length x channels x states.  ``bare`` is the recurrence and its readout alone,
``whole`` has the softplus, bias, skip and gate of a Mamba block, too.  Times are the median and the
least of all rounds: on a busy machine the median says more of the others.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import setting

from qc import targets
from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.build import build
from qc.backends.qdq.writer import to_onnx
from qc.ir import Graph, TensorType, evaluate, ops
from qc.scoring import peers

SIZES = (
    "1x512x512x16", "1x128x192x16", "1x2048x512x16", "1x512x1536x16", "4x128x512x16",
    "1x512x512x64", "1x64x64x8", "1x16x512x16", "1x1x512x16",
)  # fmt: skip
HEADERS = (
    "batch x length x channels x states", "form", "ours ms", "ort Scan ms", "ort / ours",
    "ours, least", "ort, least", "ort / ours", "ours to reference", "ort to reference",
)  # fmt: skip


def network(size: Sequence[int], whole: bool) -> Graph:
    """One scan; A is constant and spread as trained networks have it."""
    batch, length, channels, states = size
    rng, graph = np.random.default_rng(0), Graph("scan")
    shapes = {"u": channels, "delta": channels, "b": states, "c": states}
    shapes |= {"z": channels} if whole else {}
    values = {
        name: graph.input(name, TensorType("float32", (batch, length, width)))
        for name, width in shapes.items()
    }

    def constant(array: np.ndarray, name: str) -> object:
        return graph.constant(array.astype(np.float32), name)

    a = constant(-np.exp(rng.uniform(-2, 2.8, (channels, states))), "a")
    ins = [values["u"], values["delta"], a, values["b"], values["c"]]
    if whole:
        ins += [constant(rng.normal(size=channels), "d"), values["z"]]
        ins += [constant(0.3 * rng.normal(size=channels) - 3, "bias")]
    graph.outputs = [graph.add(ops.SelectiveScan(softplus=whole), ins, names=["y"]).output]
    return graph


def measure(size: Sequence[int], whole: bool, args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds, and greatest differences over the greatest value."""
    graph = network(size, whole)
    rng = np.random.default_rng(1)
    feed = {v.name: rng.normal(size=v.shape).astype(np.float32) for v in graph.inputs}
    if not whole:
        feed["delta"] = np.logaddexp(0, feed["delta"] - 3).astype(np.float32)
    model = to_onnx(graph).SerializeToString()
    want = evaluate(graph, feed)["y"]
    with tempfile.TemporaryDirectory(prefix="qc-bench-") as folder:
        build(graph, targets.load(args.target), Path(folder) / "out")
        artifact = Artifact.load(Path(folder) / "out", args.threads)
        calls = {
            "ours": artifact.runner(feed),
            "ort": peers.ort_call(model, feed, args.threads),
        }
        rounds = peers.Contest(calls, args.seconds).rounds()
        found = {name: median(times) for name, times in rounds.items()}
        found |= {f"{name} least": min(times) for name, times in rounds.items()}
        results = {"ours": artifact.run(feed)["y"], "ort": other(model, feed)}
    for name, y in results.items():
        found[f"{name} to reference"] = float(np.abs(y - want).max() / np.abs(want).max())
    return found


def other(model: bytes, feed: peers.Feed) -> np.ndarray:
    """What onnxruntime computes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], dict(feed))[0])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--sizes", nargs="+", default=list(SIZES))
    top.add_argument("--target", default="host")
    top.add_argument("--threads", type=int, default=1)
    top.add_argument("--seconds", type=float, default=3.0, help="per row")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    found: dict[str, object] = {}
    rows: list[list[object]] = []
    for size in args.sizes:
        for form in ("bare", "whole"):
            one = measure([int(d) for d in size.split("x")], form == "whole", args)
            found[f"{size} {form}"] = one
            errors = [f"{one[f'{name} to reference']:.1e}" for name in ("ours", "ort")]
            times = [
                number
                for kind in ("", " least")
                for ours, ort in [(one[f"ours{kind}"], one[f"ort{kind}"])]
                for number in (ours, ort, round(ort / ours, 1))
            ]
            rows.append([size, form, *times, *errors])
            print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    print("\n" + setting.markdown(HEADERS, rows))
    setting.finish(
        {"machine": setting.machine(), "threads": args.threads, "scans": found}, args.json
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
