"""Trained sequence networks in static int8: what they may lose, on part of the zoo's data."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import numpy as np
import pytest
from zoo_networks import ZOO, network

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir import Graph
from qc.passes import Context, PassManager
from qc.passes.recipe import load_recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)"),
]

Feeds = list[dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def zoo() -> ModuleType:
    """The zoo's own module, which makes the data."""
    spec = spec_from_file_location("zoo", ZOO.parent / "zoo.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["zoo"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def samples(arrays: dict[str, np.ndarray], graph: Graph) -> Feeds:
    """One feed per sample, each array in its input's own shape."""
    shapes = {v.name: v.shape for v in graph.inputs}
    count = len(next(iter(arrays.values())))
    return [
        {k: np.asarray(a[i]).reshape(shapes[k]) for k, a in arrays.items()} for i in range(count)
    ]


def quantized(graph: Graph, feeds: Feeds) -> Graph:
    """The network with explicit codes, which integers follow bit for bit."""
    context = Context(calibration=feeds, executor=OnnxRuntimeExecutor())
    passes = load_recipe("int8").passes
    return PassManager([p for p in passes if p.name != "fold-integers"]).run(graph, context)[0]


def results(graph: Graph, feeds: Feeds) -> np.ndarray:
    name = graph.outputs[0].name
    run = OnnxRuntimeExecutor().open(graph, [name])
    return np.stack([run(feed)[name] for feed in feeds])


def test_a_voice_detector_decides_as_in_float(zoo: ModuleType) -> None:
    """Its spectrum is a root of sums of squares; a mistake of 7 of 468 frames would be too many."""
    graph, entry = network("silero_vad_16k_op15"), zoo.load("silero_vad")
    small = quantized(graph, samples(entry.calibration(128), graph))
    inputs, targets = entry.evaluation()
    speech = results(small, samples({k: a[::3] for k, a in inputs.items()}, graph)) > 0.5
    assert (speech.reshape(-1) == targets["labels"][::3]).mean() >= 0.985


def test_one_per_cent_of_a_transformers_perplexity_at_most(zoo: ModuleType) -> None:
    graph, entry = network("stories260k_T128"), zoo.load("stories260k")
    small = quantized(graph, samples(entry.calibration(128), graph))
    inputs, targets = entry.evaluation()
    feeds = samples(inputs, graph)
    real, found = (entry.score([results(g, feeds)[:, 0]], targets) for g in (graph, small))
    assert found <= 1.01 * real
