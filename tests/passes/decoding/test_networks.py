"""Decoders as PyTorch and ONNX have them, float and integer, one token after another."""

import numpy as np
import pytest
from zoo_networks import ZOO

from qc.ir.evaluate import evaluate
from qc.loading import load_concrete
from qc.passes.canonicalize import Canonicalize
from qc.passes.context import Context
from qc.passes.decoding.check import check_steps
from qc.passes.decoding.step import empty_states, stepped
from qc.passes.decoding.stretch import stretched
from qc.passes.manager import PassManager
from qc.passes.recipe import load_recipe


def in_canonical_form(graph):
    graph = graph.copy()
    Canonicalize().apply(graph, Context())
    return graph


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_from_torch(name):
    """GPT-2: LayerNorm, learned positions, packed projections; Llama: GQA, RoPE, SwiGLU."""
    pytest.importorskip("torch")
    import architectures

    from qc.frontends import from_torch
    from qc.frontends.torch_program import export

    module, inputs = architectures.build(name)
    graph = in_canonical_form(from_torch.load(export(module, inputs)))
    step = stepped(graph, 1)
    assert len(step.states) == 4
    tokens = inputs[0].numpy()
    assert check_steps(graph, stepped(graph, 3), step, tokens) == tokens.shape[1]


@pytest.fixture(scope="module")
def stories():
    path = ZOO / "stories260k_T128.onnx"
    if not path.exists():
        pytest.skip("no zoo here")
    return load_concrete(path, {}, lambda _: {})


@pytest.mark.parametrize("recipe", ["float", "int8-dynamic"])
def test_stories(stories, recipe):
    tokens = np.random.default_rng(0).integers(0, 512, (1, 128))
    graph, _ = PassManager(load_recipe(recipe).passes).run(stories, Context())
    step = stepped(graph, 1)
    assert len(step.states) == 10
    assert check_steps(graph, stepped(graph, 8), step, tokens) == 24


def test_stories_in_static_integers(stories):
    """Codes of keys and values are kept, and no last bit differs."""
    rng = np.random.default_rng(0)
    feeds = [{"ids": rng.integers(0, 512, (1, 128))} for _ in range(2)]
    context = Context(calibration=feeds)
    recipe = load_recipe("int8", {"choose-precision.share": 1e9})  # scores are codes, too
    graph, _ = PassManager(recipe.passes).run(stories, context)
    step, tokens = stepped(graph, 1), feeds[0]["ids"]
    assert {v.type.dtype for v in step.inputs[2:]} == {"uint8"}
    want, state = evaluate(graph, feeds[0])["logits"], empty_states(step)
    for at in range(6):
        place = np.array([at])
        out = evaluate(step, {"ids": tokens[:, place], "position": place, **state})
        assert np.array_equal(out["logits"][:, 0], want[:, at])
        state = {before: out[after] for before, after in step.states}


def test_stories_are_longer_than_their_tables(stories):
    """Rotary tables and mask continue: what 128 positions gave, 200 give as well."""
    graph = in_canonical_form(stories)
    tokens = np.random.default_rng(0).integers(0, 512, (1, 200))
    want = evaluate(graph, {"ids": tokens[:, :128]})["logits"]
    got = evaluate(stretched(graph, 200), {"ids": tokens})["logits"]
    assert np.abs(got[:, :128] - want).max() <= 1e-5 * np.abs(want).max()
