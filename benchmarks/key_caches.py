"""Keys of attentions in block floats: errors of the scores, with and without ``reorder``.

    python benchmarks/key_caches.py                     # stories260k, BFP12 in blocks of 4 to 64

Per attention, all else in float: energy of the error of the scores over theirs, the mean over all
attentions, over ``--samples`` evaluation samples (orders are found on calibration samples).
``shared``: all heads order their rotary pairs alike; ``per head``: each for itself, with tables
for each, where that gains.  ``objective`` is what the pass works with: the relative errors of all
caches, keys and values, added up.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import islice

import numpy as np
import setting

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.data.dataset import Feeds, specs_of
from qc.ir.graph import Graph
from qc.loading import load_concrete
from qc.passes.blocks.slots import is_probability
from qc.passes.canonicalize import Canonicalize
from qc.passes.context import Context, Feed
from qc.passes.encode import EncodeFormats
from qc.passes.reorder import Reorder

HEADERS = (
    "block", "as it is", "reordered, shared", "reordered, per head", "objective, as it is",
    "shared", "per head", "tables per head, KiB",
)  # fmt: skip


def scores(graph: Graph) -> list[str]:
    """Names of the products of queries and keys."""
    return [
        n.output.name
        for n in graph.nodes
        if n.op.name == "MatMul"
        and not any(v.is_constant for v in n.operands)
        and not is_probability(n.operands[0])
    ]


def errors(graph: Graph, feeds: Sequence[Feed], name: str) -> float:
    """Mean relative error energy of the scores, each attention's cache encoded alone."""
    found = []
    for score in scores(graph):
        encoded = graph.copy()
        others = [n.name for n in graph.nodes if n.output.name != score]
        EncodeFormats(caches=name).apply(encoded, Context(keep_float=others))
        run, rerun = (OnnxRuntimeExecutor().open(g, [score]) for g in (graph, encoded))
        lost = total = 0.0
        for feed in feeds:
            before, after = run(feed)[score].astype(np.float64), rerun(feed)[score]
            lost, total = lost + np.square(after - before).sum(), total + np.square(before).sum()
        found.append(lost / total)
    return float(np.mean(found))


def row(
    graph: Graph, calibration: Sequence[Feed], feeds: Sequence[Feed], block: int
) -> list[object]:
    """The line of the table for one size of blocks."""
    name = f"bfp4-{block}"
    found, objectives, size = [errors(graph, feeds, name)], list[object](), 0.0
    for tables in ("shared", "per-head"):
        work = graph.copy()
        encode = EncodeFormats(caches=name)
        context = Context(calibration=calibration, executor=OnnxRuntimeExecutor(), after=(encode,))
        facts = Reorder(tables=tables).apply(work, context)
        found.append(errors(work, feeds, name))
        objectives += [facts["error_after"]]
        before, size = facts["error_before"], float(facts["added_bytes"]) / 1024
    return [block, *found, before, *objectives, size]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("name", nargs="?", default="stories260k")
    top.add_argument("--blocks", default="4,8,16,32,64")
    top.add_argument("--samples", type=int, default=16, metavar="N")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    entry = setting.zoo().load(args.name)
    inputs, _ = entry.evaluation()
    calibration = entry.calibration(8)
    graph = load_concrete(entry.path, {}, lambda _: {k: v[:1].shape for k, v in inputs.items()})
    graph = graph.copy()
    Canonicalize().apply(graph, Context())
    feeds = [{k: v[i : i + 1] for k, v in inputs.items()} for i in range(args.samples)]
    known = [{k: v[i : i + 1] for k, v in calibration.items()} for i in range(8)]
    data = list(islice(Feeds(known, specs_of(graph)), 8))
    rows = []
    for block in map(int, args.blocks.split(",")):
        rows.append(row(graph, data, feeds, block))
        print(setting.markdown(HEADERS, rows[-1:]).splitlines()[-1], flush=True)
    print("\n" + setting.markdown(HEADERS, rows))
    setting.finish({"machine": setting.machine(), "results": rows}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
