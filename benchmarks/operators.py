"""Single integer operators beside onnxruntime's, interleaved in one process.

    python benchmarks/operators.py                                 # for this machine
    python benchmarks/operators.py --targets host,x86-vnni,x86 --tune 60 --json figures.json
    python benchmarks/operators.py "gemm*" "depthwise*"            # some of them

Every operator is an ONNX file with uint8 codes in and out that takes the way of any network; its
codes are compared with the integer reference before anything is timed.  Images lie channels last at
the boundary, as they do between layers: what is timed is the kernel, the copy into its padding, the
copy to the output and the call.  onnxruntime's integer forms are QGemm and QLinearMatMul, and
QLinearConv channels first and channels last, each with int8 and with uint8 weights; `ort right` is
the fastest whose codes are within one step of the reference (int8 weights saturate on AVX2).
`of peak` is the share of a loop of the target's multiply-accumulates on registers, `of reading` the
share of the speed at which one core reads as many bytes as there are weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import setting
from operator_models import Array, Convolution, Model, Product, channels_last
from peaks import READ, Peak, Peaks, peak_of

from qc import api
from qc.backends.codegen.artifact import Artifact
from qc.ir.errors import QcError
from qc.ir.evaluate import evaluate
from qc.ir.text import load as load_graph
from qc.scoring import peers
from qc.targets import Target, load, missing_features

Operator: TypeAlias = Product | Convolution
OPERATORS: tuple[Operator, ...] = (
    Product(128, 768, 768),
    Product(512, 512, 512),
    Product(1, 4096, 4096),
    Convolution(64, 64, 56, 3),
    Convolution(256, 64, 56, 1),
    Convolution(96, 96, 112, 3, 96),
)
HEADERS = (
    "operator", "target", "ours us", "ort float us", "ort int8 us", "form", "ort right us", "form",
    "float / ours", "int8 / ours", "right / ours", "of peak", "of reading",
)  # fmt: skip


@dataclass
class Found:
    """The medians of one operator in milliseconds, and who was right."""

    medians: dict[str, float]
    right: list[str]
    peaks: dict[str, Peak] = field(default_factory=dict)

    def fastest(self, names: Sequence[str]) -> str | None:
        """Of those that were timed."""
        timed = [n for n in names if n in self.medians]
        return min(timed, key=self.medians.__getitem__, default=None)

    def share(self, target: str, macs: int) -> float | None:
        """Of the peak of a target's registers."""
        if (peak := self.peaks.get(target)) is None:
            return None
        return (macs / self.medians[target]) / (peak.macs / self.medians[peak.name])


def measure(
    operator: Operator, targets: Sequence[Target], args: argparse.Namespace, scratch: Path
) -> Found:
    """Compile, compare with the reference, and time all in turn."""
    model, calls, found = operator.ours(), {}, Found({}, [])
    loops, want = Peaks(scratch), None
    for target in targets:
        out = scratch / target.name
        onnx.save(model.proto, str(scratch / "operator.onnx"))
        database = scratch / "db.jsonl"
        job = api.Job(scratch / "operator.onnx", target, database=database, tune=args.tune)
        api.compile_to_directory(job, out)
        artifact = Artifact.load(out)
        want = evaluate(load_graph(out), model.feed)["y"]
        if not np.array_equal(artifact.run(model.feed)["y"], want):
            raise QcError(f"{operator.name} for {target.name}: codes differ from the reference")
        calls[target.name] = artifact.runner(model.feed)
        if (name := peak_of(target.features)) is not None:
            found.peaks[target.name], calls[name] = loops.loop(name)
    assert want is not None
    for name, rival in operator.rivals().items():
        if (call := _rival(name, rival)) is None:
            continue
        calls[name] = call
        if _within_one(rival, want):
            found.right.append(name)
    real = operator.real()
    calls[peers.FLOAT] = peers.ort_call(real.proto.SerializeToString(), real.feed)
    calls[READ] = loops.read(_weight_bytes(operator))
    found.medians = peers.Contest(calls, args.seconds).medians()
    return found


def _rival(name: str, model: Model) -> peers.Call | None:
    """A call of onnxruntime; None, said on standard error, for a form that it has no kernel for."""
    try:
        return peers.ort_call(model.proto.SerializeToString(), model.feed)
    except Exception as error:  # third-party code: this form does not run
        print(f"onnxruntime does not run {name}: {str(error).splitlines()[0]}", file=sys.stderr)
        return None


def _within_one(model: Model, want: Array) -> bool:
    """Whether onnxruntime's codes are the reference's up to how halves are rounded."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.proto.SerializeToString(), options)
    got = channels_last(model, session.run(None, model.feed)[0])
    return bool(np.abs(got.astype(np.int16) - want.astype(np.int16)).max() <= 1)


def _weight_bytes(operator: Operator) -> int:
    w = next(i for i in operator.ours().proto.graph.initializer if i.name == "w")
    return int(np.prod(w.dims))


def rows(operator: Operator, targets: Sequence[Target], found: Found) -> list[list[object]]:
    """The lines of the table for one operator."""
    medians = {name: 1e3 * ms for name, ms in found.medians.items()}
    forms = list(operator.rivals())
    best, right = found.fastest(forms), found.fastest(found.right)
    rivals = [medians[peers.FLOAT], *(medians[n] if n else None for n in (best, right))]
    lines = []
    for target in targets:
        ours = medians[target.name]
        ratios = [t / ours if t is not None else None for t in rivals]
        reading = medians[READ] / ours if operator.name.startswith("gemv") else None
        lines.append([
            operator.name, target.name, ours, rivals[0], rivals[1], best, rivals[2], right,
            *ratios, found.share(target.name, operator.macs), reading,
        ])  # fmt: skip
    return lines


def runnable(names: Sequence[str]) -> list[Target]:
    """The targets that this cpu can run; the others are said to be skipped."""
    targets = []
    for name in names:
        target = load(name)
        if missing := missing_features(target):
            print(f"{name}: skipped, this cpu lacks {', '.join(missing)}")
        else:
            targets.append(target)
    return targets


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("operators", nargs="*", default=["*"], help="patterns of names; default: all")
    top.add_argument("--targets", default="host", help="names, separated by commas")
    top.add_argument("--tune", type=float, metavar="SECONDS", help="per operator; default: untuned")
    top.add_argument("--seconds", type=float, default=3.0, help="of timing, per operator")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    chosen = [o for o in OPERATORS if any(fnmatchcase(o.name, p) for p in args.operators)]
    if not chosen:
        top.error(f"no operator matches; there are {', '.join(o.name for o in OPERATORS)}")
    targets = runnable(args.targets.split(","))
    if not targets:
        return 1
    table: list[list[object]] = []
    for operator in chosen:
        with tempfile.TemporaryDirectory(prefix="qc-operators-") as folder:
            lines = rows(operator, targets, measure(operator, targets, args, Path(folder)))
        table += lines
        print("\n".join(setting.markdown(HEADERS, lines).splitlines()[2:]), flush=True)
    print("\n" + setting.markdown(HEADERS, table))
    data = [dict(zip(HEADERS, line, strict=True)) for line in table]
    setting.finish({"machine": setting.machine(), "operators": data}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
