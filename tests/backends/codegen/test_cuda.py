"""Networks for CUDA, on a device or emulated, and what is said of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from compiled import Compiled, compile_networks
from test_exactness import check

from qc import api, targets
from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.cuda import nvcc
from qc.backends.codegen.emulate import STANDALONE
from qc.backends.codegen.link import check_linkers
from qc.ir.errors import BackendError, TargetError
from qc.targets import cuda_device

CC = shutil.which("cc")
no_device = pytest.mark.skipif(
    cuda_device.compute_capability() > 0, reason="this machine has a CUDA device"
)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a device."""
    monkeypatch.setattr(cuda_device, "compute_capability", lambda: 0)


def test_several_runs_and_threads(everything_on_cuda: Compiled) -> None:
    artifact, rng = everything_on_cuda.artifact, np.random.default_rng(3)
    feeds = [
        {k: rng.normal(size=v.shape).astype(v.dtype) for k, v in everything_on_cuda.feed.items()}
        for _ in range(2)
    ]
    first = [artifact.run(feed) for feed in feeds]
    again = Artifact.load(everything_on_cuda.path).run(feeds[1])
    for name, array in again.items():
        np.testing.assert_array_equal(array, first[1][name])
    assert any(not np.array_equal(first[0][k], first[1][k]) for k in again)
    with pytest.raises(TargetError, match="from one thread, not from 2"):
        Artifact.load(everything_on_cuda.path, threads=2)
    with pytest.raises(TargetError, match="--device does not serve"):
        Artifact.load(everything_on_cuda.path, device="localhost:1")


def test_manifest_says_what_was_checked(everything_on_cuda: Compiled) -> None:
    manifest = everything_on_cuda.artifact.manifest
    assert manifest["features"] == ["sse2"]
    assert manifest["cuda"]["arch"] == "sm_80"
    assert "no nvcc here" in manifest["cuda"]["code"]
    assert manifest["cuda"]["launches"] < manifest["calls"]
    assert manifest["cuda"]["device_bytes"] > manifest["constant_bytes"]


@pytest.fixture
def lesser(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose device is older than the code."""
    monkeypatch.setattr(cuda_device, "compute_capability", lambda: 75)


@pytest.mark.usefixtures("lesser")
def test_a_lesser_device_is_left_alone(everything_on_cuda: Compiled) -> None:
    assert Artifact.load(everything_on_cuda.path).emulator == "an emulated CUDA device"


@pytest.mark.usefixtures("bare")
def test_without_a_device(everything_on_cuda: Compiled, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(everything_on_cuda.path, copy)
    assert Artifact.load(copy).emulator == "an emulated CUDA device"
    found = api.bench(copy, seconds=0.1)
    assert found["emulator"] == "an emulated CUDA device"
    (copy / STANDALONE).unlink()
    with pytest.raises(TargetError, match="needs a CUDA device sm_80 and this machine has none: "):
        Artifact.load(copy)


@no_device
def test_the_library_says_that_there_is_no_driver(
    everything_on_cuda: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_device, "compute_capability", lambda: 80)
    with pytest.raises(TargetError, match=r"no CUDA driver: libcuda\.so\.1"):
        Artifact.load(everything_on_cuda.path)


def test_source_that_nvcc_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvcc"
    tool.write_text("#!/bin/sh\necho 'network.cu(3): error: no such thing' >&2\nexit 2\n")
    tool.chmod(0o755)
    monkeypatch.setattr(nvcc, "nvcc", lambda: str(tool))
    with pytest.raises(BackendError, match=r"for sm_80: network.cu\(3\): error: no such"):
        nvcc.check("", "sm_80", tmp_path)


def test_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole path: the report says that the code was run, and by which compiler it was not."""
    monkeypatch.setattr(nvcc, "nvcc", lambda: None)
    root = Path(__file__).resolve().parents[3]
    job = api.Job(root / "demo" / "digits.onnx", "cuda", calibration=root / "demo" / "calib.npz")
    api.compile_to_directory(job, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["check"]["differing"] == 0
    assert any("no nvcc here" in note for note in report["notes"])
    assert any("knows no times of a GPU" in note for note in report["notes"])
    assert report["tuning"]["recorded"] == 0
    assert report["tuning"]["workloads"] > 0
    decided = next(r for r in report["ledger"] if r["pass"] == "choose-precision")
    assert "no cost is known" in json.dumps(decided)


def test_zig_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a C compiler its wheel makes the host code and the emulated device."""
    pytest.importorskip("ziglang")
    monkeypatch.setattr("qc.backends.codegen.link.shutil.which", lambda name: None)
    compiled = compile_networks("cuda", ["epilogues", "dynamic"], tmp_path / "out")
    for name in ("epilogues", "dynamic"):
        check(compiled, name)


def test_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(BackendError, match=r"'cuda' is compiled on x86-64, .* machine is aarch64"):
        check_linkers(targets.load("cuda"))


def test_every_target_is_for_a_device() -> None:
    names = [n for n in targets.names() if n.startswith("cuda")]
    assert [targets.load(n).arch for n in names] == ["sm_80", "sm_75", "sm_90"]
