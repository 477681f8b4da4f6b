"""Latency of compiled networks beside onnxruntime's float and its best int8, interleaved.

    python benchmarks/vs_onnxruntime.py                      # the zoo
    python benchmarks/vs_onnxruntime.py resnet8 my.onnx --threads 2 --json figures.json

onnxruntime's int8 is the fastest of: uint8 activations and int8 weights per channel by its own
quantizer on the same calibration data, as QDQ and as integer operators, channels first and (with
all optimisations) channels last.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import setting

from qc import api
from qc.backends.codegen.artifact import Artifact
from qc.backends.qdq.writer import to_onnx
from qc.data.dataset import Dataset, specs_of
from qc.ir.errors import QcError
from qc.models import manifest_specs
from qc.scoring import peers

HEADERS = (
    "network",
    "ours ms",
    "ort float ms",
    "ort int8 ms",
    "float / ours",
    "int8 / ours",
    "int8 variant",
)


def measure(
    model: Path, data: Path | None, args: argparse.Namespace, scratch: Path
) -> dict[str, object]:
    """The medians of one network."""
    job = api.Job(model, args.target, args.recipe, data, seed=0)
    api.compile_to_directory(job, scratch / "out")
    artifact = Artifact.load(scratch / "out", args.threads)
    specs = manifest_specs(artifact.manifest)
    graph = api.load(model, input_shapes={s.name: s.shape for s in specs})
    if data is None:
        feeds = peers.noise(specs, 8)
    else:
        feeds = [
            dict(f) for _, f in zip(range(args.calib), Dataset(data, specs_of(graph)), strict=False)
        ]
    calls: dict[str, peers.Call] = {"artifact": artifact.runner(feeds[0])}
    calls |= peers.peers_of(str(model), to_onnx(graph), feeds, scratch, args.threads)
    medians = peers.Contest(calls, args.seconds).medians()
    return {"ours": medians["artifact"], "variants": medians} | {
        key: peers.best(medians, peer)
        for key, peer in (("float", peers.FLOAT), ("int8", peers.INT8))
    }


def row(name: str, found: dict[str, object]) -> list[object]:
    """The line of the table for one network."""
    ours, real, int8 = found["ours"], found["float"], found["int8"]
    assert isinstance(ours, float)
    ratios = [t / ours if isinstance(t, float) else None for t in (real, int8)]
    variants = found["variants"]
    assert isinstance(variants, dict)
    best = next((k for k, v in variants.items() if v == int8 and k.startswith(peers.INT8)), "")
    return [name, ours, real, int8, *ratios, best.removeprefix(f"{peers.INT8}/")]


def geometric_mean(values: Sequence[object]) -> float | None:
    """Of those that are numbers."""
    known = [v for v in values if isinstance(v, float) and v > 0]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else None


def source(name: str, count: int, scratch: Path) -> tuple[Path, Path | None]:
    """The model file and calibration data of a zoo entry or a path."""
    if name.endswith(".onnx"):
        return Path(name), None
    import numpy as np

    entry = setting.zoo().load(name)
    data = scratch / "calib.npz"
    np.savez(data, **entry.calibration(count))
    return entry.path, data


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument(
        "models", nargs="*", default=list(setting.ZOO_NAMES), help="zoo names or .onnx files"
    )
    top.add_argument("--target", default="host")
    top.add_argument("--recipe", help="default: int8 with calibration data, else dynamic")
    top.add_argument("--calib", type=int, default=32, metavar="N", help="calibration samples")
    top.add_argument("--threads", type=int, default=1)
    top.add_argument("--seconds", type=float, default=5.0, help="per network")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    found: dict[str, object] = {}
    rows: list[list[object]] = []
    for name in args.models:
        with tempfile.TemporaryDirectory(prefix="qc-bench-") as folder:
            try:
                model, data = source(name, args.calib, Path(folder))
                found[name] = one = measure(model, data, args, Path(folder))
            except QcError as error:
                print(f"{name}: {error}", file=sys.stderr)
                found[name] = {"error": str(error)}
                continue
        rows.append(row(name, one))
        print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    means = [geometric_mean([r[i] for r in rows]) for i in (4, 5)]
    rows.append(["geometric mean", None, None, None, *means, ""])
    print("\n" + setting.markdown(HEADERS, rows))
    setting.finish(
        {"machine": setting.machine(), "threads": args.threads, "networks": found}, args.json
    )
    return int(any("error" in one for one in found.values() if isinstance(one, dict)))


if __name__ == "__main__":
    sys.exit(main())
