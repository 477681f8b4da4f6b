"""One build per target for all networks of the tests: starting the compilers costs most."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

pytest.importorskip("tvm")

from compiled import Compiled, compile_networks
from networks import ISLANDS, LAYERS, OTHERS

from qc.targets import load, missing_features


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All networks for AVX-512 VNNI (AVX2 where there is no VNNI)."""
    target = "x86" if missing_features(load("x86-vnni")) else "x86-vnni"
    path = tmp_path_factory.mktemp("all") / "out"
    return compile_networks(target, [*LAYERS, *OTHERS, *ISLANDS], path)


@pytest.fixture(scope="session")
def everything_on_arm(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All networks for 64-bit ARM, in an emulator."""
    return compile_networks(
        "arm", [*LAYERS, *OTHERS, *ISLANDS], tmp_path_factory.mktemp("arm") / "out"
    )


@pytest.fixture(scope="session")
def everything_on_cuda(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All networks for tensor cores: on the device, else emulated."""
    return compile_networks(
        "cuda", [*LAYERS, *OTHERS, *ISLANDS], tmp_path_factory.mktemp("cuda") / "out"
    )


@pytest.fixture(
    scope="session",
    params=["x86", "x86-amx", "arm-v7", "arm-v8", "arm", "arm-i8mm", "cuda-sm75"],
)
def layers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The networks that use the kernel templates, for the other targets."""
    return compile_networks(request.param, [*LAYERS], tmp_path_factory.mktemp("layers") / "out")
