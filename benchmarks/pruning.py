"""Accuracy of pruned networks of the zoo, without fine-tuning and in float.

    python benchmarks/pruning.py                           # ResNet-20, the whole table
    python benchmarks/pruning.py mobilenet_v2 --rows obs/auto/sequential --kept 0.7
    python benchmarks/pruning.py digits --kept 0.5,0.3     # the demo's network, with batch norms

A row is ``criterion/allocation/compensation``; columns are the MACs that are removed.
``recalibrated``: nothing is fitted, batch norms are set to the statistics of what is left.
"""

from __future__ import annotations

import argparse
import resource
import sys
from time import perf_counter
from typing import Any

import numpy as np
import setting

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.gradients import TorchGradients
from qc.ir.graph import Graph
from qc.loading import load_concrete
from qc.passes import (
    Canonicalize,
    Context,
    Pass,
    PassManager,
    PruneChannels,
    RecalibrateBatchNorm,
)
from qc.passes.measure import macs

CRITERIA = ("l1", "l2", "taylor", "fluctuation", "obs")
ROWS = [
    *(f"{c}/uniform/{f}" for f in ("none", "joint", "sequential") for c in CRITERIA),
    *(f"obs/{a}/none" for a in ("ranked", "rate-distortion")),
    *(f"obs/{a}/{f}" for f in ("joint", "sequential") for a in ("ranked", "rate-distortion")),
    "obs/auto/sequential",
]


def main() -> int:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", default="resnet20")
    parser.add_argument("--rows", help="default: the whole table")
    parser.add_argument("--kept", default="0.8,0.7,0.5", help="fractions of the MACs that stay")
    parser.add_argument("--samples", type=int, default=320, help="calibration samples")
    args = parser.parse_args()
    entry = Digits() if args.network == "digits" else setting.zoo().load(args.network)
    calibration = entry.calibration(args.samples)
    inputs, targets = entry.evaluation()
    graph = load_concrete(entry.path, {}, lambda specs: {s.name: (1, *s.shape[1:]) for s in specs})
    context = Context(
        calibration=_feeds(graph, calibration),
        executor=OnnxRuntimeExecutor(),
        gradients=TorchGradients(),
    )
    cases = _feeds(graph, inputs)

    def accuracy(network: Graph) -> float:
        names = [v.name for v in network.outputs]
        run = context.open(network, names)
        found = [run(feed) for feed in cases]
        outputs = [np.concatenate([f[name] for f in found]) for name in names]
        return float(100 * entry.score(outputs, targets))

    print(f"float: {accuracy(graph):.1f} % of {len(cases)} samples")
    fractions = [float(k) for k in args.kept.split(",")]
    rows = []
    norms = any(n.op.name == "BatchNormalization" for n in graph.nodes)
    recalibrated = [f"{c}/uniform/recalibrated" for c in CRITERIA] if norms else []
    for row in args.rows.split(",") if args.rows else [*ROWS, *recalibrated]:
        criterion, allocation, compensate = row.split("/")
        cells: list[Any] = []
        started = perf_counter()
        for kept in fractions:
            fitted = "none" if compensate == "recalibrated" else compensate
            how = PruneChannels(
                macs=kept, criterion=criterion, allocation=allocation, compensate=fitted,
                samples=args.samples,
            )  # fmt: skip
            passes: list[Pass] = [Canonicalize(), how]
            passes += [RecalibrateBatchNorm()] if compensate == "recalibrated" else []
            small, _ = PassManager(passes).run(graph, context)
            assert abs(macs(small) / macs(graph) - kept) < 0.02
            cells.append(round(accuracy(small), 1))
        rows.append([*row.split("/"), *cells, round(perf_counter() - started)])
        print(*rows[-1], flush=True)
    removed = [f"-{1 - kept:.0%}" for kept in fractions]
    print(setting.markdown(["criterion", "allocation", "compensation", *removed, "s"], rows))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")
    print(setting.machine())
    return 0


class Digits:
    """The demo's network and data, as the zoo has its own."""

    path = setting.ROOT / "demo" / "digits.onnx"

    def calibration(self, count: int) -> dict[str, np.ndarray]:
        """Images."""
        return {k: v[:count] for k, v in np.load(self.path.parent / "calib.npz").items()}

    def evaluation(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Images, and what they show."""
        found = dict(np.load(self.path.parent / "eval.npz"))
        labels = found.pop("labels")
        return found, labels

    def score(self, outputs: list[np.ndarray], labels: np.ndarray) -> float:
        """The share of images that are told."""
        return float((outputs[0].reshape(len(labels), -1).argmax(1) == labels).mean())


def _feeds(graph: Graph, arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    (value,) = graph.inputs
    data = arrays[value.name]
    whole = data.ndim > value.type.rank
    return [{value.name: data[i] if whole else data[i : i + 1]} for i in range(len(data))]


if __name__ == "__main__":
    sys.exit(main())
