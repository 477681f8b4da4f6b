"""Artifacts for AMX: run as they are where tiles are, emulated where these alone are missing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compiled import Compiled

from qc import api, measurers, targets
from qc.backends.codegen import tile_registers
from qc.backends.codegen.artifact import MANIFEST, Artifact
from qc.ir.errors import BackendError, DataError, TargetError
from qc.targets import host
from qc.targets.cpus import CPUS, TILES, UNUSED

AMX = targets.load("x86-amx")
needs_emulation = pytest.mark.skipif(
    not AMX.emulated, reason="AMX is here, or more than its tiles is missing"
)


@pytest.fixture
def copy(others_on_amx: Compiled, tmp_path: Path) -> Path:
    shutil.copytree(others_on_amx.path, tmp_path / "copy")
    return tmp_path / "copy"


def pretend(monkeypatch: pytest.MonkeyPatch, have: frozenset[str]) -> None:
    """Let this machine's cpu be another one."""
    for module in (host, tile_registers):
        monkeypatch.setattr(module, "features", lambda: have)


@needs_emulation
def test_emulated_here(others_on_amx: Compiled) -> None:
    assert others_on_amx.artifact.emulator == tile_registers.NAME
    before = tile_registers.counts()
    others_on_amx.artifact.run(others_on_amx.feed)
    after = tile_registers.counts()
    assert all(after[kind] > before[kind] for kind in ("ldtilecfg", "tileload", "tilestore", "tdp"))
    found = api.bench(others_on_amx.path, seconds=0.1)
    assert found["emulator"] == tile_registers.NAME
    with pytest.raises(DataError, match="cannot be compared"):
        api.bench(others_on_amx.path, against=["onnxruntime"])


def test_threads(others_on_amx: Compiled) -> None:
    """Every thread of a pool has tiles of its own."""
    got = Artifact.load(others_on_amx.path, threads=2).run(others_on_amx.feed)
    for name, want in others_on_amx.want.items():
        np.testing.assert_array_equal(got[name], want)


@needs_emulation
def test_a_changed_emulator_is_refused(copy: Path) -> None:
    with (copy / tile_registers.FILE).open("ab") as file:
        file.write(b"more")
    with pytest.raises(BackendError, match=r"tiles.so' does not match the hash"):
        Artifact.load(copy)
    (copy / tile_registers.FILE).unlink()
    with pytest.raises(BackendError, match="cannot be read"):
        Artifact.load(copy)


@needs_emulation
def test_without_an_emulator(copy: Path) -> None:
    """As artifacts were before there was one."""
    manifest = json.loads((copy / MANIFEST).read_text())
    del manifest["files"][tile_registers.FILE]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(TargetError, match="this machine lacks amx-int8, amx-tile"):
        Artifact.load(copy)


def test_only_tiles_are_emulated(others_on_amx: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, AMX.required - TILES - {"avx512vnni"})
    assert not AMX.emulated
    with pytest.raises(TargetError, match="lacks amx-int8, amx-tile, avx512vnni"):
        Artifact.load(others_on_amx.path)


def test_a_cpu_with_tiles_never_emulates_them(
    others_on_amx: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    pretend(monkeypatch, CPUS["sapphirerapids"])
    monkeypatch.setattr(tile_registers, "permit", lambda: asked.append("permit"))
    monkeypatch.setattr(tile_registers, "emulate", lambda _: asked.append("emulate"))
    assert not AMX.emulated
    artifact = Artifact.load(others_on_amx.path)
    assert (artifact.emulator, asked) == (None, ["permit"])


def test_other_artifacts_do_not_touch_signals(layers_here: Compiled) -> None:
    """Nor does the import: the handler is that of processes which run such code."""
    root = Path(__file__).resolve().parents[2]
    code = f"""
import sys
sys.path.insert(0, {str(root)!r})
import conftest, qc
from qc.backends.codegen import tile_registers
from qc.backends.codegen.artifact import Artifact
artifact = Artifact.load({str(layers_here.path)!r})
assert artifact.emulator is None and not tile_registers._loaded
caught = next(w for l in open("/proc/self/status") if (w := l.split())[0] == "SigCgt:")
assert not int(caught[1], 16) >> 3 & 1, "SIGILL is handled"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@needs_emulation
def test_no_times_of_an_emulator() -> None:
    assert measurers.measurer_here(AMX) == ""
    with pytest.raises(TargetError, match="cannot be timed here: this machine lacks amx-int8"):
        measurers.measurer_here(AMX, required=True)


def test_what_no_kernel_uses_is_not_required() -> None:
    """Half precision would keep cpus from running the code that have all that it uses."""
    unused = UNUSED["sapphirerapids"]
    assert unused < CPUS["sapphirerapids"]
    assert not AMX.required & unused
    assert AMX.required - TILES <= CPUS["icelake-server"] & CPUS["znver4"]
    assert AMX.tvm()["mattr"] == ["-amx-bf16", "-avx512bf16", "-avx512fp16", "-avxvnni"]
    assert "mattr" not in targets.load("x86-vnni").tvm()
