"""Networks that no kernel can run yet: an artifact without code, run by the numpy reference.

Values in number formats (``Encode``, ``Decode``) have no kernels.  Their artifact holds the graph
with its packed weights; these are unpacked when it is loaded, and every run is an evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...ir.errors import TargetError
from ...ir.evaluate import evaluate, last_uses
from ...ir.graph import Graph, Value
from ...ir.ops.encoding import Decode, Encode
from ...ir.stored import stored_bytes
from ...ir.text import DATA_FILE, TEXT_FILE, load
from ...ir.types import Array
from ...ir.unpacked import unpacked
from ...targets.target import Target
from .artifact import Artifact, Entry, check_file
from .build import manifest_of

UNPACKED = 2**29
"""Bytes up to which packed weights are unpacked once, not whenever they are read."""

KEY = "reference"
"""Of manifests: the formats that have no kernel."""


def formats_of(graph: Graph) -> list[str]:
    """Names of the number formats that values of a graph are in."""
    return sorted({n.op.format for n in graph.nodes if isinstance(n.op, Encode | Decode)})


def _unpacked_bytes(graph: Graph) -> int:
    constants = (n for n in graph.nodes if isinstance(n.op, Decode) and n.operands[0].is_constant)
    return sum(_bytes(n.output) for n in constants)


def reason(formats: Sequence[str]) -> str:
    """Why there is no code, as a sentence."""
    return f"{', '.join(formats)}: no kernels yet, the numpy reference runs the network"


def reference_manifest(graph: Graph, target: Target) -> dict[str, Any]:
    """What the manifest says of a network that has no code.

    ``peak_activation_bytes`` are those of the values that the reference holds at a time.
    """
    facts = {
        "weight_bytes": sum(stored_bytes(v.data) for v in graph.constants if v.data is not None),
        "constant_bytes": 0,
        "workspace_bytes": 64,
        "peak_activation_bytes": _peak(graph),
        "kernels": 0,
        "calls": 0,
        KEY: formats_of(graph),
    }
    return {**manifest_of(graph, target, facts), "features": []}


def open_reference(
    folder: Path, manifest: dict[str, Any], threads: int, device: str | None
) -> Artifact:
    """The artifact of a network without code; ``TargetError`` for threads and devices."""
    why = reason(manifest[KEY])
    if device is not None:
        raise TargetError(f"{str(folder)!r} has no code for {device} ({why}); leave out --device")
    if threads > 1:
        raise TargetError(f"{str(folder)!r} runs on one thread, not on {threads} ({why})")
    for name in (TEXT_FILE, DATA_FILE):
        check_file(folder, manifest, name)
    graph = load(folder)
    run = Reference(unpacked(graph) if _unpacked_bytes(graph) <= UNPACKED else graph)
    artifact = Artifact(folder, manifest, Entry(run, lambda arrays: [arrays]), 1)
    artifact.note = why
    return artifact


class Reference:
    """Evaluates a graph; called with arrays for all ports and the workspace."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __call__(self, arrays: Sequence[Array]) -> None:
        """Run once: reads the inputs, fills the outputs."""
        count = len(self.graph.inputs)
        feed = {v.name: a for v, a in zip(self.graph.inputs, arrays, strict=False)}
        found = evaluate(self.graph, feed)
        for value, into in zip(self.graph.outputs, arrays[count:-1], strict=True):
            into[...] = found[value.name]


def _peak(graph: Graph) -> int:
    last = last_uses(graph, {v.name for v in graph.outputs})
    alive = sum(map(_bytes, graph.inputs))
    peak = alive
    for node in graph.nodes:
        alive += sum(map(_bytes, node.outputs))
        peak = max(peak, alive)
        alive -= sum(_bytes(graph[name]) for name in last[id(node)])
    return peak


def _bytes(value: Value) -> int:
    return value.type.size * value.type.itemsize
