"""Networks compiled together, with a feed and what must come out."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import emulators
import numpy as np
import pytest
from networks import ISLANDS, LAYERS, OTHERS, Net

from qc.backends.codegen import shares, tile_registers
from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.build import build
from qc.backends.codegen.cuda import nvcc
from qc.ir.evaluate import evaluate
from qc.targets import load, missing_features


def need_emulator() -> None:
    """Skip with a reason where code for ARM cannot be linked or run."""
    pytest.importorskip("ziglang")
    try:
        emulators.set_up()
    except emulators.Unavailable as error:
        pytest.skip(str(error))


def set_up_tiles() -> None:
    """Let this process run code for AMX, emulated where that is needed; skips where it cannot."""
    target = load("x86-amx")
    if not (lacking := missing_features(target)):
        tile_registers.permit()
    elif target.emulated:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / tile_registers.FILE
            library.write_bytes(tile_registers.compile_emulator(Path(folder)))
            tile_registers.emulate(library)
    else:
        pytest.skip(f"this machine lacks {', '.join(lacking)}")


@dataclass
class Compiled:
    """All networks as one graph, compiled, with a feed and what must come out."""

    path: Path
    artifact: Artifact
    feed: dict[str, np.ndarray]
    want: dict[str, np.ndarray]
    outputs: dict[str, list[str]]


def compile_networks(target: str, names: list[str], path: Path) -> Compiled:
    """Build the named networks into one artifact."""
    known = {**LAYERS, **OTHERS, **ISLANDS}
    return compile_all(target, {name: known[name] for name in names}, path)


def compile_all(
    target: str, networks: dict[str, Callable[[Net], None]], path: Path, alone: float = -1.0
) -> Compiled:
    """Build networks into one artifact, if it is not there; skips where this machine cannot run it.

    Threads share calls that take longer than ``alone`` seconds, however short the network is.
    nvcc is left out: test_cuda_instructions.py asks it.
    """
    description = load(target)
    if description.emulator:
        need_emulator()
    elif (lacking := missing_features(description)) and not description.emulated:
        pytest.skip(f"this machine lacks {', '.join(lacking)}")
    net, outputs = Net(), {}
    for name, network in networks.items():
        before = len(net.graph.outputs)
        network(net)
        outputs[name] = [v.name for v in net.graph.outputs[before:]]
    if not path.exists():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nvcc, "nvcc", lambda: None)
            patch.setattr(shares, "ALONE", alone)
            patch.setattr(shares, "WAKE", -1.0)
            build(net.graph, description, path)
    feed = net.feed()
    return Compiled(path, Artifact.load(path), feed, evaluate(net.graph, feed), outputs)
