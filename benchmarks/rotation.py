"""What rotations gain in static int8 and with 4-bit weights: networks of the zoo, by method.

    python benchmarks/rotation.py                                # both Mambas with outliers
    python benchmarks/rotation.py vit_cifar10 --limit 200

Whole evaluation sets, run by onnxruntime as simulated (with Quantize and Dequantize), and all
layers quantized.  ``drop`` is in points of per cent, for a perplexity in per cent of the float
network's.  ``plain`` rounds to nearest; all others by second moments, 4 bits with feedback.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import setting
from accuracy import Case

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.data.dataset import InputSpec
from qc.ir.graph import Graph
from qc.loading import load_concrete
from qc.passes import Context, PassManager
from qc.passes.table import make_pass

NETWORKS = ("mamba_shakespeare_outliers", "mamba_shakespeare_outliers_all")
HEADERS = ("network", "method", "float", "W8A8", "drop", "W4A8", "drop")

Stage = tuple[str, dict[str, object]]
SPLIT, EQUALIZE = ("split-layers", {}), ("equalize", {})


def _rotate(method: str, online: str = "none") -> Stage:
    return "rotate", {"method": method, "online": online}


METHODS: dict[str, list[Stage]] = {
    "plain": [],
    "equalized": [EQUALIZE],
    "split, equalized": [SPLIT, EQUALIZE],
    **{
        f"{method}{', online' if online != 'none' else ''}": [
            SPLIT, _rotate(method, online), EQUALIZE,
        ]
        for online in ("none", "scans")
        for method in ("hadamard", "klt", "klt-hadamard")
    },
}  # fmt: skip
"""What lies between a canonical network and its calibration."""


def quantized(graph: Graph, case: Case, name: str, bits: int, calib: int) -> Graph:
    """The network as simulated."""
    rounding = "nearest" if name == "plain" else "gptq" if bits == 8 else "feedback"
    stages: list[Stage] = [
        ("canonicalize", {}), ("fold-batchnorm", {}), *METHODS[name], ("calibrate", {}),
        ("quantize", {"weight_bits": bits, "rounding": rounding}),
    ]  # fmt: skip
    data = case.entry.calibration(calib)
    feeds = [{k: v[i : i + 1] for k, v in data.items()} for i in range(calib)]
    context = Context(calibration=feeds, executor=OnnxRuntimeExecutor())
    return PassManager([make_pass(*stage) for stage in stages]).run(graph, context)[0]


def score(graph: Graph, case: Case) -> float:
    """The metric over the evaluation set."""
    names = [v.name for v in graph.outputs]
    run = OnnxRuntimeExecutor().open(graph, names)
    count = len(next(iter(case.inputs.values())))
    found = [run({k: v[i : i + 1] for k, v in case.inputs.items()}) for i in range(count)]
    outputs = [np.concatenate([one[name] for one in found]) for name in names]
    return float(case.entry.score(outputs, case.targets))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("names", nargs="*", default=list(NETWORKS))
    top.add_argument("--method", action="append", choices=list(METHODS), help="default: all")
    top.add_argument("--calib", type=int, default=128, metavar="N")
    top.add_argument("--limit", type=int, metavar="N", help="evaluate on the first N samples only")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    rows: list[list[object]] = []
    for network in args.names:
        with tempfile.TemporaryDirectory(prefix="qc-rotation-") as folder:
            case = Case(network, Path(folder))
            case.prepare(args.calib, args.limit)

        def given(specs: Sequence[InputSpec], case: Case = case) -> dict[str, list[int]]:
            return {s.name: [1, *case.inputs[s.name].shape[1:]] for s in specs}

        graph = load_concrete(case.entry.path, {}, given)
        before = case.entry.score(case.real, case.targets)
        for name in args.method or METHODS:
            row: list[object] = [network, name, before]
            for bits in (8, 4):
                after = score(quantized(graph, case, name, bits, args.calib), case)
                better = case.entry.higher_is_better
                row += [after, 100 * (before - after if better else after / before - 1)]
            rows.append(row)
            print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    print("\n" + setting.markdown(HEADERS, rows))
    setting.finish({"machine": setting.machine(), "results": rows}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
