"""A trained network with fewer than 8 bits: what the recipes may lose, on the zoo's data."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pytest
from zoo_networks import ZOO, network

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.passes import Context, PassManager
from qc.passes.measure import sqnr_db
from qc.passes.recipe import load_recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)"),
]


@pytest.mark.parametrize(("recipe", "points", "db"), [("w4a8", 0.5, 22.0), ("w4a4", 1.5, 13.0)])
def test_resnet20(recipe: str, points: float, db: float) -> None:
    spec = spec_from_file_location("zoo", ZOO.parent / "zoo.py")
    assert spec is not None
    assert spec.loader is not None
    zoo = sys.modules["zoo"] = module_from_spec(spec)
    spec.loader.exec_module(zoo)
    graph, entry = network("resnet20_cifar10"), zoo.load("resnet20")
    shape, name, output = graph.inputs[0].shape, graph.inputs[0].name, graph.outputs[0].name

    def feeds(arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        return [{name: x.reshape(shape)} for x in arrays[name]]

    context = Context(calibration=feeds(entry.calibration(128)), executor=OnnxRuntimeExecutor())
    passes = [p for p in load_recipe(recipe).passes if p.name != "fold-integers"]
    coded, _ = PassManager(passes).run(graph, context)
    inputs, targets = entry.evaluation()
    real, found = (
        np.concatenate([run(feed)[output] for feed in feeds(inputs)])
        for run in (OnnxRuntimeExecutor().open(g, [output]) for g in (graph, coded))
    )
    lost = entry.score([real], targets) - entry.score([found], targets)
    assert 100 * lost <= points
    assert sqnr_db([real], [found]) >= db
