"""What ``qc eval`` and ``qc run`` can run: an artifact, or a model file through onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .data.columns import columns
from .data.dataset import InputSpec, known_shapes, specs_of
from .ir.errors import DataError
from .ir.graph import Graph
from .ir.types import Array
from .scoring.runs import Run


@dataclass(frozen=True)
class Model:
    """Something that runs: its inputs, the names of its outputs in order, and how.

    ``note`` says why it does not run by code of its own, where that is so.
    """

    name: str
    specs: list[InputSpec]
    outputs: list[str]
    run: Run
    note: str = ""

    def check_like(self, other: Model) -> None:
        """``DataError`` unless both take the same inputs and give as many outputs."""
        ours, theirs = {s.name: s.shape for s in self.specs}, {s.name: s.shape for s in other.specs}
        if ours != theirs:
            raise DataError(f"{self.name} takes {ours}, but {other.name} takes {theirs}")
        if len(self.outputs) != len(other.outputs):
            raise DataError(
                f"{self.name} has {len(self.outputs)} outputs, {other.name} {len(other.outputs)}"
            )


def open_model(
    path: str | Path, data: str | Path | None = None, preprocess: str | Path | None = None
) -> Model:
    """An artifact's folder, or a model; its symbolic dimensions come from ``data``."""
    return open_artifact(path) if Path(path).is_dir() else _open_file(path, data, preprocess)


def open_artifact(path: str | Path, threads: int = 1, device: str | None = None) -> Model:
    """An artifact, run by its own code, if it has any: here, or on ``device`` (HOST:PORT)."""
    from .backends.codegen.artifact import Artifact

    artifact = Artifact.load(path, threads, device)
    return Model(
        str(path),
        manifest_specs(artifact.manifest),
        manifest_outputs(artifact.manifest),
        artifact.run,
        artifact.note,
    )


def open_reference(path: str | Path) -> Model:
    """An artifact, run by the numpy reference; needs neither its library nor its machine."""
    from .backends.codegen.artifact import read_manifest
    from .ir.evaluate import evaluate

    manifest, graph = read_manifest(Path(path)), reference_graph(path)
    outputs = manifest_outputs(manifest)
    return Model(str(path), manifest_specs(manifest), outputs, lambda feed: evaluate(graph, feed))


def reference_graph(path: str | Path) -> Graph:
    """The graph of an artifact as the numpy reference runs it; constants are unpacked."""
    from .backends.codegen.artifact import read_manifest
    from .ir.text import load
    from .ir.unpacked import unpacked

    read_manifest(Path(path))
    return unpacked(load(Path(path)))


def manifest_specs(manifest: Mapping[str, object]) -> list[InputSpec]:
    """The inputs that a manifest lists."""
    return [InputSpec(p["name"], p["dtype"], tuple(p["shape"])) for p in _ports(manifest, "inputs")]


def manifest_outputs(manifest: Mapping[str, object]) -> list[str]:
    """The names of the outputs that a manifest lists."""
    return [p["name"] for p in _ports(manifest, "outputs")]


def _ports(manifest: Mapping[str, object], key: str) -> list[dict[str, Any]]:
    ports = manifest.get(key)
    if not isinstance(ports, list):
        raise DataError(f"the manifest lists no {key}; compile the model again")
    return ports


def _open_file(path: str | Path, data: str | Path | None, preprocess: str | Path | None) -> Model:
    from .backends.qdq.executor import OnnxRuntimeExecutor
    from .loading import load_concrete

    def shown(specs: list[InputSpec]) -> dict[str, tuple[int, ...]]:
        if data is None:
            return {}
        return known_shapes(columns(data, [s.name for s in specs], preprocess), specs)

    graph = load_concrete(path, {}, shown)
    outputs = [v.name for v in graph.outputs]
    run: Run = OnnxRuntimeExecutor().open(graph, outputs)

    def call(feed: Mapping[str, Array]) -> Mapping[str, Array]:
        return run(dict(feed))

    return Model(str(path), specs_of(graph), outputs, call)
