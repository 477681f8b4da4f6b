"""Artifacts for another machine run in the target's emulator, or say what they need."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from compiled import Compiled

from qc import api
from qc.backends.codegen import emulate
from qc.backends.codegen.artifact import Artifact
from qc.ir.errors import BackendError, DataError, TargetError


def test_several_runs_in_one_process(others_on_arm: Compiled) -> None:
    artifact, rng = others_on_arm.artifact, np.random.default_rng(3)
    assert artifact.emulator == "qemu-aarch64"
    feeds = [
        {k: rng.normal(size=v.shape).astype(v.dtype) for k, v in others_on_arm.feed.items()}
        for _ in range(2)
    ]
    first = [artifact.run(feed) for feed in feeds]
    again = Artifact.load(others_on_arm.path).run(feeds[1])
    for name, array in again.items():
        np.testing.assert_array_equal(array, first[1][name])
    assert any(not np.array_equal(first[0][k], first[1][k]) for k in again)


def test_bench_without_peers(others_on_arm: Compiled) -> None:
    found = api.bench(others_on_arm.path, seconds=0.1)
    assert found["emulator"] == "qemu-aarch64"
    assert float(str(found["artifact_ms"])) > 0
    with pytest.raises(DataError, match="cannot be compared"):
        api.bench(others_on_arm.path, against=["onnxruntime"])


def test_one_thread_only(others_on_arm: Compiled) -> None:
    with pytest.raises(TargetError, match="on one thread, not on 2"):
        Artifact.load(others_on_arm.path, threads=2)


def test_without_an_emulator(others_on_arm: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulate.shutil, "which", lambda *_: None)
    with pytest.raises(TargetError, match=r"aarch64.*with qemu-aarch64 installed it runs emulated"):
        Artifact.load(others_on_arm.path)


def test_a_changed_or_missing_program(others_on_arm: Compiled, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(others_on_arm.path, copy)
    with (copy / emulate.STANDALONE).open("ab") as file:
        file.write(b"more")
    with pytest.raises(BackendError, match="does not match the hash"):
        Artifact.load(copy)
    (copy / emulate.STANDALONE).unlink()
    with pytest.raises(BackendError, match="cannot be read"):
        Artifact.load(copy)


def test_a_program_that_dies_says_so_and_starts_again(
    others_on_arm: Compiled, tmp_path: Path
) -> None:
    script = tmp_path / "emulator"
    script.write_text("#!/bin/sh\necho illegal instruction >&2\nexit 7\n")
    script.chmod(0o755)
    broken = emulate.Emulated([str(script)], others_on_arm.path / emulate.STANDALONE, 1)
    room = [np.zeros(1 << 20, np.uint8)] * 3
    for _ in range(2):
        with pytest.raises(BackendError, match=r"ended with status .*illegal instruction"):
            broken(room)
    with pytest.raises(BackendError, match="cannot start"):
        emulate.Emulated([str(tmp_path / "none")], script, 1)(room)
