"""Networks of the zoo for CUDA: values against the reference, and times beside onnxruntime's.

    python benchmarks/cuda.py                                # the zoo, on this machine's device
    python benchmarks/cuda.py resnet20 --target cuda-sm75    # without a device: values alone

``run`` is one call with its copies to and from the device, ``replay`` the kernels alone.  Peers are
the providers of onnxruntime-gpu that are installed: CUDA in float32, TensorRT in float16 and on our
int8 export.  Without a device the emulated one gives the values, and there are no times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import setting

from qc import api
from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.cuda.device import Device
from qc.compiler import QDQ_MODEL
from qc.data.dataset import Dataset, specs_of
from qc.ir.errors import QcError
from qc.ir.evaluate import evaluate
from qc.ir.text import load as load_graph
from qc.ir.types import Array
from qc.scoring import peers
from qc.scoring import runs as scoring

HEADERS = (
    "network", "kernels", "launches", "differing", "of values", "run ms", "replay ms",
    "ort cuda ms", "tensorrt fp16 ms", "tensorrt int8 ms",
)  # fmt: skip
REPLAYS = 1000


def measure(name: str, args: argparse.Namespace, scratch: Path) -> list[object]:
    """The line of one network."""
    entry, data, out = setting.zoo().load(name), scratch / "calib.npz", scratch / "out"
    np.savez(data, **entry.calibration(args.calib))
    api.compile_to_directory(api.Job(entry.path, args.target, None, data), out)
    artifact, graph = Artifact.load(out), load_graph(out)
    feeds = [
        dict(f) for _, f in zip(range(args.samples), Dataset(data, specs_of(graph)), strict=False)
    ]
    found = scoring.Difference()
    for feed in feeds:
        found.update(artifact.run(feed), evaluate(graph, feed))
    manifest = artifact.manifest
    line = [name, manifest["kernels"], manifest["cuda"]["launches"], found.differing, found.values]
    if artifact.emulator:
        return [*line, None, None, None, None, None]
    calls: dict[str, peers.Call] = {"ours": artifact.runner(feeds[0])}
    calls |= rivals(entry.path, out / QDQ_MODEL, feeds[0])
    medians = peers.Contest(calls, args.seconds).medians()
    device = Device(out / "lib.so", len(artifact.inputs) + len(artifact.outputs))
    device.open()
    replay = 1e3 * device.seconds(REPLAYS)
    return [*line, medians["ours"], replay, *(medians.get(k) for k in ("cuda", "fp16", "int8"))]


def rivals(real: Path, export: Path, feed: Mapping[str, Array]) -> dict[str, peers.Call]:
    """Calls of onnxruntime on the device, by the column that they belong to."""
    import onnxruntime as ort

    cuda, tensorrt = "CUDAExecutionProvider", "TensorrtExecutionProvider"
    wanted: dict[str, tuple[str, Path, dict[str, object]]] = {
        "cuda": (cuda, real, {}),
        "fp16": (tensorrt, real, {"trt_fp16_enable": True}),
        "int8": (tensorrt, export, {"trt_int8_enable": True}),
    }
    here = ort.get_available_providers()
    calls: dict[str, peers.Call] = {}
    for name, (provider, model, options) in wanted.items():
        if provider not in here:
            continue
        session = ort.InferenceSession(str(model), providers=[(provider, options)])
        if provider in session.get_providers():  # it may fall back without an error
            given = {i.name: np.asarray(feed[i.name]) for i in session.get_inputs()}
            calls[name] = lambda s=session, g=given: s.run(None, g)
    return calls


def main(argv: Sequence[str] | None = None) -> int:
    """Compile, compare, time, print the table; 1 where a value differs."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("names", nargs="*", default=list(setting.ZOO_NAMES), help="zoo names")
    top.add_argument("--target", default="cuda")
    top.add_argument("--calib", type=int, default=32, metavar="N", help="calibration samples")
    top.add_argument("--samples", type=int, default=4, help="compared with the reference")
    top.add_argument("--seconds", type=float, default=3.0, help="per network")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    rows: list[list[object]] = []
    for name in args.names:
        with tempfile.TemporaryDirectory(prefix="qc-cuda-") as folder:
            try:
                rows.append(measure(name, args, Path(folder)))
            except QcError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
        print(*rows[-1], flush=True)
    print(setting.markdown(HEADERS, rows))
    setting.finish({"setting": setting.machine(), "headers": HEADERS, "rows": rows}, args.json)
    return int(len(rows) < len(args.names))


if __name__ == "__main__":
    sys.exit(main())
