"""``qc inspect``: what a model or an artifact consists of, and its coupled channels."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from pathlib import Path

from ..diagnosis.group_table import group_table
from ..ir.graph import Graph
from ..ir.untie import untie
from ..passes.canonicalize import Canonicalize
from ..passes.context import Context
from ..passes.measure import macs, parameters, weight_bytes
from ..reporting.report import size
from ..tables import text_table
from .commands import set_up_log


def do_inspect(args: Namespace) -> int:
    """``qc inspect``."""
    set_up_log(args.debug)
    graph = _graph(args.model)
    if args.text:
        print(graph)
        return 0
    if args.groups:
        graph = graph.copy()
        if "integer" not in graph.properties:
            Canonicalize().apply(graph, Context())
        untie(graph)
        print(group_table(graph))
        return 0
    ports = [("input", v) for v in graph.inputs] + [("output", v) for v in graph.outputs]
    print(text_table(["", "name", "type"], [[kind, v.name, str(v.type)] for kind, v in ports]))
    counts = Counter(n.op.name for n in graph.nodes)
    print("\n" + text_table(["op", "nodes"], [[k, n] for k, n in counts.most_common()]))
    try:
        work = f"{macs(graph):,}"
    except ValueError:
        work = "unknown while dimensions are symbolic"
    print(f"\nparameters: {parameters(graph):,} in {size(weight_bytes(graph))}; MACs: {work}")
    return 0


def _graph(model: str) -> Graph:
    from ..loading import load

    path = Path(model)
    if not path.is_dir():
        return load(model)
    from ..backends.codegen.artifact import read_manifest
    from ..ir.text import load as load_text

    read_manifest(path)
    return load_text(path)
