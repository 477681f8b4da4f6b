"""Every tile and every way to split sums gives the same integers."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from compiled import compile_networks
from networks import LAYERS
from test_exactness import check

from qc.backends.codegen import template
from qc.backends.codegen.kernels import ConvWorkload, templates
from qc.backends.codegen.template import TemplateKernel


@pytest.mark.parametrize(
    ("target", "seed"), [("cuda", 0), ("cuda", 1), ("cuda-sm75", 2), ("cuda-sm75", 3)]
)
def test_any_candidate(
    target: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, chosen = np.random.default_rng(seed), set()

    def anyone(workload: ConvWorkload, features: frozenset[str]) -> TemplateKernel:
        found = [
            TemplateKernel(workload, features, name, knobs)
            for name, one in templates(workload, features).items()
            for knobs in one.knob_space(workload)
        ]
        kernel = found[rng.integers(len(found))]
        chosen.add((kernel.name, kernel.knobs))
        return kernel

    monkeypatch.setattr(template, "by_estimate", anyone)
    compiled = compile_networks(target, [*LAYERS], tmp_path / "out")
    for name in LAYERS:
        check(compiled, name)
    assert len(chosen) > 8
