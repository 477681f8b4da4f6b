"""The graphs of the architectures, which torch takes seconds to export: once in a run of tests."""

from pathlib import Path

import pytest
from once import made_once

from qc.frontends import from_torch
from qc.frontends.torch_program import export
from qc.ir import Graph
from qc.ir.text import load, save

from . import Example, build


def graph_of(name: str, factory: pytest.TempPathFactory) -> tuple[Graph, Example]:
    """The graph of ``name``, whoever exported it, and its example inputs."""
    module, inputs = build(name)
    with made_once(factory, f"architecture-{name}") as path:
        if not path.exists():
            _keep(from_torch.load(export(module, inputs)), path)
        return load(path), inputs


def keep(name: str, graph: Graph, factory: pytest.TempPathFactory) -> None:
    """Leave a graph that was just exported to the others."""
    with made_once(factory, f"architecture-{name}") as path:
        if not path.exists():
            _keep(graph, path)


def _keep(graph: Graph, path: Path) -> None:
    draft = path.with_suffix(".draft")
    draft.mkdir()
    save(graph, draft)
    draft.rename(path)
