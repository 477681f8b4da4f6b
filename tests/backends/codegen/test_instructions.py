"""Code for a target holds the instructions that its features promise, and none that it lacks."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from qc import targets
from qc.backends.codegen.kernels import (
    ConvWorkload,
    DepthwiseWorkload,
    Epilogue,
    FloatEpilogue,
    View,
    weighed,
)
from qc.backends.codegen.kernels.compile import build_module
from qc.backends.codegen.template import by_estimate

CODES, REALS = View.dense(16, 18, 64, "uint8"), View.dense(16, 18, 64, "float32")
ROOM, SPACE = View.dense(14, 16, 64, "uint8"), View.dense(14, 16, 64, "float32")
SHAPE = ((3, 3), (1, 1), (1, 1))
WORKLOADS = {
    "conv": ConvWorkload(CODES, ROOM, *SHAPE, Epilogue("uint8", 3)),
    "depthwise": DepthwiseWorkload(CODES, ROOM, *SHAPE, Epilogue("uint8", 3)),
    "float": ConvWorkload(REALS, SPACE, *SHAPE, FloatEpilogue()),
    "float depthwise": DepthwiseWorkload(REALS, SPACE, *SHAPE, FloatEpilogue()),
}
WIDE = ["%zmm", "vpdpbusd", "tdpbusd", "{vex}"]
PROMISED: dict[str, dict[str, list[str]]] = {
    "x86": {"conv": ["vpmaddwd"], "depthwise": ["vpmaddwd"], "float": ["vfmadd"]},
    "x86-vnni": {"conv": ["vpdpbusd", "%zmm"], "depthwise": ["vpdpbusd"], "float": ["%zmm"]},
    "x86-amx": {"conv": ["tdpbusd", "ldtilecfg"], "depthwise": ["vpdpbusd"], "float": ["%zmm"]},
    "arm-v7": {"conv": ["vmull.s8"], "depthwise": ["vmla"], "float": ["vfma"]},
    "arm-v8": {"conv": ["smull", "sadalp"], "depthwise": ["smlal"], "float": ["fmla"]},
    "arm": {"conv": ["sdot"], "depthwise": ["sdot"], "float": ["fmla"]},
    "arm-i8mm": {"conv": ["usmmla"], "depthwise": ["usdot"], "float": ["fmla"]},
}
LACKING = {
    "x86": [*WIDE, "vpmaddubsw"],
    "x86-vnni": ["tdpbusd", "vpmaddubsw"],
    "x86-amx": ["vpmaddubsw"],
    "arm-v7": ["sdot", "udot", "vcvtn", "vrint"],
    "arm-v8": ["sdot", "udot", "smmla"],
    "arm": ["usdot", "sudot", "smmla"],
    "arm-i8mm": [],
}


def test_every_target_with_code_is_here() -> None:
    known = [n for n in targets.names() if n != "host" and not targets.load(n).arch]
    assert sorted(known) == sorted(PROMISED) == sorted(LACKING)


@pytest.mark.parametrize("name", PROMISED)
@pytest.mark.parametrize("kind", WORKLOADS)
def test_instructions(name: str, kind: str) -> None:
    target = targets.load(name)
    emitted = by_estimate(WORKLOADS[kind], target.features).emit("kernel")
    text = str(build_module(emitted.function, "kernel", target.tvm()).inspect_source("asm"))
    wanted = PROMISED[name].get(kind, PROMISED[name]["float"])
    assert [word for word in wanted if word not in text] == []
    assert [word for word in LACKING[name] if word in text] == []


@pytest.mark.parametrize("name", ["x86", "x86-vnni", "x86-amx", "arm-v8"])
@pytest.mark.parametrize(("weight", "short"), [(20, True), (127, False)])
def test_sums_of_16_bits(name: str, weight: int, short: bool) -> None:
    """Without a dot product of bytes, where the weights let 16 bits hold sums of four products."""
    target = targets.load(name)
    weights = np.full((64, 64, 3, 3), weight, np.int8)
    kernel = by_estimate(weighed(WORKLOADS["conv"], target.features, weights), target.features)
    text = str(
        build_module(kernel.emit("kernel").function, "kernel", target.tvm()).inspect_source("asm")
    )
    assert ("vpmaddubsw" in text) == (short and name == "x86")
