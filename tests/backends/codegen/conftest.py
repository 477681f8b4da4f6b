"""Three builds per target for all networks of the tests.

The functions around a graph check all its ports, and LLVM takes for them the square of their
number: so networks of a kind are an artifact of their own.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

pytest.importorskip("tvm")

from compiled import Compiled, compile_networks
from networks import ISLANDS, LAYERS, OTHERS
from once import made_once

from qc.targets import load, missing_features

HERE = "x86" if missing_features(load("x86-vnni")) else "x86-vnni"
"""AVX-512 VNNI, or AVX2 where there is no VNNI."""


def once(factory: pytest.TempPathFactory, name: str, target: str, *names: str) -> Compiled:
    """Networks for a target, built by whoever comes first."""
    with made_once(factory, name) as path:
        return compile_networks(target, [*names], path)


@pytest.fixture(scope="session")
def layers_here(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The networks that use the kernel templates."""
    return once(tmp_path_factory, "layers", HERE, *LAYERS)


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All other networks of integers."""
    return once(tmp_path_factory, "others", HERE, *OTHERS)


@pytest.fixture(params=["layers_here", "others", "islands"])
def each(request: pytest.FixtureRequest) -> Compiled:
    """All networks, a kind at a time."""
    found: Compiled = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def islands(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All networks of reals."""
    return once(tmp_path_factory, "islands", HERE, *ISLANDS)


@pytest.fixture(scope="session")
def others_on_amx(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All networks of integers that ``layers`` has not, for AMX."""
    return once(tmp_path_factory, "others-amx", "x86-amx", *OTHERS)


@pytest.fixture(scope="session")
def others_on_arm(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All networks of integers that ``layers`` has not, for 64-bit ARM in an emulator."""
    return once(tmp_path_factory, "others-arm", "arm", *OTHERS)


@pytest.fixture(scope="session")
def islands_on_arm(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All networks of reals for 64-bit ARM, in an emulator."""
    return once(tmp_path_factory, "islands-arm", "arm", *ISLANDS)


@pytest.fixture(scope="session")
def everything_on_cuda(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All networks for tensor cores: on the device, else emulated."""
    return once(tmp_path_factory, "all-cuda", "cuda", *LAYERS, *OTHERS, *ISLANDS)


@pytest.fixture(
    scope="session",
    params=["x86", "x86-amx", "arm-v7", "arm-v8", "arm", "arm-i8mm", "cuda-sm75"],
)
def layers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Those of ``layers_here`` for the other targets."""
    return once(tmp_path_factory, f"layers-{request.param}", request.param, *LAYERS)
