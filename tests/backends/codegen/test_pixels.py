"""Pixels of three bytes: the codes of the reference, whatever the size and whoever shares them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from compiled import compile_all
from networks import Net

from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.generic import Generic
from qc.backends.codegen.lower import lower
from qc.backends.codegen.template import by_estimate
from qc.targets import load

SIZES = ((1, 1), (3, 15), (2, 16), (5, 37), (33, 48))
"""Fewer than sixteen in a row, as many, and more with some left over."""


def images(n: Net, height: int, width: int, batch: int = 1) -> None:
    """Read without a border, where all rows are one, and with one."""
    for size in (1, 3):
        n.real(n.conv(n.codes(batch, 3, height, width), 16, (size, size)))


NETWORKS = {f"{h} x {w}": partial(images, height=h, width=w) for h, w in SIZES}
NETWORKS["a batch"] = partial(images, height=4, width=20, batch=3)


@pytest.mark.parametrize(
    "target",
    ["x86", "x86-vnni", *(pytest.param(t, marks=pytest.mark.slow) for t in ("arm-v8", "arm-v7"))],
)
def test_the_codes_of_the_reference(target: str, tmp_path: Path) -> None:
    made = compile_all(target, NETWORKS, tmp_path / "out")
    artifacts = [made.artifact]
    if not load(target).emulator:
        artifacts.append(Artifact.load(made.path, threads=2))
    for artifact in artifacts:
        for name, got in artifact.run(made.feed).items():
            np.testing.assert_array_equal(got, made.want[name], err_msg=name)


def test_they_are_stored_sixteen_at_a_time() -> None:
    net = Net()
    images(net, 20, 40)
    kernels = lower(net.graph, load("x86").features, by_estimate).kernels.values()
    made = [k for k in kernels if isinstance(k, Generic) and k.op.name == "Quantize"]
    assert len(made) == 2
    for kernel in made:
        assert "huffle" in str(kernel.emit("kernel").function)
