"""Guest instructions of one inference on emulated ARM cpus, beside onnxruntime's int8.

    python tests/arm_root.py /tmp/arm onnxruntime==1.31.1 numpy==2.4.6 flatbuffers \\
        packaging protobuf
    python benchmarks/arm_instructions.py --root /tmp/arm resnet20 mobilenet_v1 kws

qemu-user with a plugin counts; start-up cancels in the difference of two runs.  Counts are exact
and repeatable, but they are not times: only a board knows those.  onnxruntime runs its own
quantizer's best form (uint8 activations, int8 weights per channel) on the same emulated cpu, one
thread.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import setting

sys.path.insert(0, str(setting.ROOT / "tests"))
from arm_root import describe_cpu

from qc import api
from qc.backends.codegen.emulate import STANDALONE
from qc.backends.qdq.writer import to_onnx
from qc.data.dataset import Dataset, specs_of
from qc.scoring import peers
from qc.targets import load

TARGETS = ("arm-v8", "arm", "arm-i8mm")
MORE = 5
"""Repetitions whose cost is averaged."""

WORK = 3e9
"""Multiply-accumulates of onnxruntime's repetitions: Python's start varies by 30 million steps."""

ORT = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import onnxruntime as ort
o = ort.SessionOptions()
o.intra_op_num_threads = 1
s = ort.InferenceSession(sys.argv[2], o)
feed = dict(np.load(sys.argv[3]))
for _ in range(int(sys.argv[4])):
    s.run(None, feed)
"""


class Counter:
    """Counts the guest instructions of programs in qemu."""

    def __init__(self, scratch: Path) -> None:
        self._out = scratch / "count"
        plugin = scratch / "count.so"
        source = Path(__file__).parent / "count_instructions.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", plugin, source], check=True)
        self._plugin = ["-plugin", f"{plugin},out={self._out}"]

    def of(self, emulator: Sequence[str], command: Sequence[str], feed: bytes = b"",
           env: dict[str, str] | None = None) -> int:  # fmt: skip
        """Instructions of one run of ``command``."""
        subprocess.run(
            [*emulator, *self._plugin, *command], input=feed, capture_output=True, check=True,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
        return int(self._out.read_text())


def ours(counter: Counter, emulator: Sequence[str], folder: Path) -> float:
    """Instructions of one inference of an artifact."""
    manifest = json.loads((folder / "manifest.json").read_text())
    rng = np.random.default_rng(0)
    ports = manifest["inputs"]
    feed = b"".join(rng.standard_normal(p["shape"]).astype(p["dtype"]).tobytes() for p in ports)
    few, many = (
        counter.of(emulator, [str(folder / STANDALONE)], struct.pack("<i", n) + feed)
        for n in (1, 1 + MORE)
    )
    return (many - few) / MORE


def theirs(
    counter: Counter, emulator: Sequence[str], root: Path, model: Path, feed: Path, more: int
) -> float:
    """Instructions of one inference of onnxruntime, of ``more``."""
    python = ["-L", str(root), str(root / "usr" / "bin" / "python3"), "-c", ORT]
    describe_cpu(root, emulator[-1])
    env = {"PYTHONHOME": str(root / "usr"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    few, many = (
        counter.of(emulator, [*python, str(root / "site"), str(model), str(feed), str(n)], env=env)
        for n in (2, 2 + more)
    )
    return (many - few) / more


def main() -> int:
    """Compile, count, print the table."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("names", nargs="*", default=["resnet20", "mobilenet_v1", "kws"])
    top.add_argument("--root", type=Path, help="an ARM root with onnxruntime (arm_root.py)")
    top.add_argument("--targets", default=",".join(TARGETS))
    top.add_argument("--calib", type=int, default=128)
    args = top.parse_args()
    rows = []
    for name in args.names:
        with tempfile.TemporaryDirectory(prefix="qc-arm-") as folder:
            rows += measure(name, Path(folder), args)
    headers = ("network", "target", "MACs", "ours", "MACs / instruction", "ort int8", "ours / ort")
    print(setting.markdown(headers, rows))
    return 0


def measure(name: str, scratch: Path, args: argparse.Namespace) -> list[list[object]]:
    """The rows of one network, in millions."""
    entry = setting.zoo().load(name)
    calib = scratch / "calib.npz"
    np.savez(calib, **entry.calibration(args.calib))
    counter = Counter(scratch)
    variants: dict[str, Path] = {}
    graph = api.load(entry.path)
    feeds = [dict(f) for f in Dataset(calib, specs_of(graph))]
    np.savez(scratch / "feed.npz", **feeds[0])
    if args.root:
        variants = peers.int8_candidates(to_onnx(graph), feeds, scratch)
    rows: list[list[object]] = []
    for target in args.targets.split(","):
        emulator = load(target).emulator
        out = scratch / target
        report = api.compile_to_directory(api.Job(entry.path, target, None, calib), out)
        count = ours(counter, emulator, out) / 1e6
        macs, more = report.macs / 1e6, round(WORK / report.macs)
        other = [
            theirs(counter, emulator, args.root.resolve(), v, scratch / "feed.npz", more) / 1e6
            for v in variants.values()
        ]
        best = min(other, default=None)
        row = [name, target, macs, count, macs / count, best, count / best if best else None]
        print(*row, flush=True)
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
