"""``qc doctor`` knows x86 and ARM machines, and says what code for ARM and CUDA lacks here."""

import pytest

from qc import doctor
from qc.targets import host as host_module
from qc.targets.cpus import CPUS
from qc.targets.host import host


@pytest.mark.parametrize(
    ("machine", "flags", "ok", "found"),
    [
        ("x86_64", {"avx2"}, True, "avx2"),
        ("x86_64", {"sse2"}, False, "neither AVX2 nor NEON"),
        ("aarch64", {"neon", "dotprod", "fullfp16"}, True, "cortex-a76: dotprod, neon"),
        ("aarch64", {"neon"}, True, "cortex-a53: neon"),
    ],
)
def test_cpu(
    machine: str, flags: set[str], ok: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    have = CPUS["haswell"] if "avx2" in flags else frozenset(flags)
    monkeypatch.setattr(doctor.targets, "load", lambda _: host(have, machine))
    check = doctor._cpu()
    assert check.ok is ok
    assert found in check.found


def test_arm_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    check = doctor._arm()
    assert check.ok
    assert "not linked without ziglang" in check.found
    assert "qemu-aarch64 is missing" in check.found


@pytest.mark.parametrize(
    ("cpu", "found"),
    [
        ("sapphirerapids", "runs here"),
        ("icelake-server", "emulated here, for want of tile registers"),
        ("znver5", "emulated here, for want of tile registers"),
        ("haswell", "not run here: this machine lacks amx-int8, amx-tile, avx512bitalg"),
    ],
)
def test_amx_is_optional(cpu: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "features", lambda: CPUS[cpu])
    monkeypatch.setattr(host_module.platform, "machine", lambda: "x86_64")
    check = doctor._amx()
    assert (check.ok, check.found) == (True, found)


def test_cuda_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(doctor.cuda_device, "compute_capability", lambda: 0)
    check = doctor._cuda()
    assert check.ok
    assert check.found == "emulated here, for want of a device; unchecked without nvcc"
    monkeypatch.setattr(doctor.cuda_device, "compute_capability", lambda: 86)
    assert "runs on sm_86 here" in doctor._cuda().found
