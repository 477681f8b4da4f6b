"""A trained Mamba in int8: all its forms, its perplexity, its compiled code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from zoo_networks import ZOO, network

from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.build import build
from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir import Graph, evaluate
from qc.passes import Context, PassManager
from qc.passes.measure import sqnr_db
from qc.passes.recipe import load_recipe
from qc.targets import load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)"),
]


def windows(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Characters, and those that come next."""
    data = np.load(ZOO.parent / "data" / f"shakespeare_{name}.npz")
    return data["inputs"][:count, None], data["targets"][:count]


def integer(form: str) -> tuple[Graph, Graph]:
    """A float network and its int8 form."""
    if form.endswith(".pt2"):
        pytest.importorskip("torch", reason="the extra torch is not installed")
    graph = network(form)
    feeds = [{"tokens": w} for w in windows("calib", 32)[0]]
    context = Context(calibration=feeds, executor=OnnxRuntimeExecutor())
    small, _ = PassManager(load_recipe("int8").passes).run(graph, context)
    return graph, small


def perplexity(graph: Graph, count: int = 24) -> float:
    """Of the numpy reference."""
    total = 0.0
    for tokens, following in zip(*windows("eval", count), strict=True):
        (logits,) = evaluate(graph, {"tokens": tokens}).values()
        logits = logits[0].astype(np.float64)
        level = np.logaddexp.reduce(logits, axis=-1)
        total += float((level - logits[np.arange(len(following)), following]).mean())
    return float(np.exp(total / count))


@pytest.mark.parametrize(
    "form", ["mamba_shakespeare_scan", "mamba_shakespeare_plain", "mamba_shakespeare.pt2"]
)
def test_one_per_cent_of_perplexity_at_most(form: str) -> None:
    graph, small = integer(form)
    assert {"QMatMul", "QConv", "SelectiveScan"} <= {n.op.name for n in small.nodes}
    assert perplexity(small) <= 1.01 * perplexity(graph)


def test_compiled_code_is_the_reference(tmp_path: Path) -> None:
    """But for codes that follow the scan's sums, of which one may move by a step."""
    _, small = integer("mamba_shakespeare_scan")
    build(small, load("host"), tmp_path / "out")
    artifact = Artifact.load(tmp_path / "out")
    for tokens in windows("eval", 4)[0]:
        want = [*evaluate(small, {"tokens": tokens}).values()]
        got = [*artifact.run({"tokens": tokens}).values()]
        assert sqnr_db(want, got) > 40
