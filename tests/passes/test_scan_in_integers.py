"""A trained Mamba in int8: all its forms, its perplexity, its compiled code."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import emulators
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


@cache
def integer(form: str, recipe: str = "int8", without: str = "") -> tuple[Graph, Graph]:
    """A float network and its integer form by the passes of a recipe, but for one; kept."""
    if form.endswith(".pt2"):
        pytest.importorskip("torch", reason="the extra torch is not installed")
    graph = network(form)
    feeds = [{"tokens": w} for w in windows("calib", 32)[0]]
    context = Context(calibration=feeds, executor=OnnxRuntimeExecutor())
    passes = [p for p in load_recipe(recipe).passes if p.name != without]
    small, _ = PassManager(passes).run(graph, context)
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


@cache
def unquantized(form: str) -> float:
    """The perplexity of the float network, which all recipes are compared with."""
    return perplexity(network(form))


@pytest.mark.parametrize(
    "form", ["mamba_shakespeare_scan", "mamba_shakespeare_plain", "mamba_shakespeare.pt2"]
)
def test_one_per_cent_of_perplexity_at_most(form: str) -> None:
    _, small = integer(form)
    assert {"QMatMul", "QConv", "SelectiveScan"} <= {n.op.name for n in small.nodes}
    assert perplexity(small) <= 1.01 * unquantized(form)


@pytest.mark.parametrize(("recipe", "bar"), [("mamba-w8a8", 1.01), ("mamba-w4a8", 1.05)])
@pytest.mark.parametrize(
    "form",
    [
        "mamba_shakespeare_scan", "mamba_shakespeare_plain", "mamba_shakespeare.pt2",
        "mamba_shakespeare_outliers", "mamba_shakespeare_outliers_all",
    ],
)  # fmt: skip
def test_rotated_networks_lose_little(form: str, recipe: str, bar: float) -> None:
    _, small = integer(form, recipe)
    ops = [n.op.name for n in small.nodes]
    assert (ops.count("Hadamard"), ops.count("SelectiveScan"), ops.count("Mul")) == (3, 3, 0)
    assert perplexity(small) <= bar * unquantized(form)


def test_outliers_behind_norms_ruin_a_network_unless_they_are_equalized() -> None:
    _, small = integer("mamba_shakespeare_outliers", without="equalize")
    before = unquantized("mamba_shakespeare_outliers")
    assert perplexity(small) > 1.3 * before
    _, small = integer("mamba_shakespeare_outliers")
    assert perplexity(small) <= 1.01 * before


@pytest.mark.parametrize(
    ("recipe", "target", "samples"),
    [("int8", "host", 4), ("mamba-w8a8", "host", 4), ("mamba-w4a8", "host", 4),
     ("mamba-w8a8", "arm", 1), ("mamba-w4a8", "arm", 1)],
)  # fmt: skip
def test_compiled_code_is_the_reference(
    recipe: str, target: str, samples: int, tmp_path: Path
) -> None:
    """But for codes that follow the scan's sums, of which some may move by a step.

    The recurrence hands a step on to all that follows, at most as loud as the quantization itself;
    most windows have none.
    """
    if target == "arm":
        pytest.importorskip("ziglang")
        try:
            emulators.set_up()
        except emulators.Unavailable as error:
            pytest.skip(str(error))
    graph, small = integer("mamba_shakespeare_scan", recipe)
    build(small, load(target), tmp_path / "out")
    artifact = Artifact.load(tmp_path / "out")
    near = []
    for tokens in windows("eval", samples)[0]:
        real, want = ([*evaluate(g, {"tokens": tokens}).values()] for g in (graph, small))
        got = [*artifact.run({"tokens": tokens}).values()]
        near.append(sqnr_db(want, got))
        assert near[-1] > sqnr_db(real, want)
    assert np.median(near) > 40
