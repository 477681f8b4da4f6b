"""Token by token, with keys and values in states, a network gives what it gives at once."""

from dataclasses import replace

import numpy as np
import pytest
from decoders import Shape, decoder, tokens_of
from hypothesis import given, settings
from hypothesis import strategies as st

from qc.ir import Graph
from qc.ir.errors import ContractError, PreconditionError
from qc.ir.evaluate import evaluate
from qc.ir.text import load, save
from qc.ir.verify import verify
from qc.passes.decoding.check import check_steps
from qc.passes.decoding.step import empty_states, stepped

SHAPES = st.builds(
    Shape,
    batch=st.integers(1, 2),
    length=st.sampled_from([4, 8, 16]),  # 4, 8 and 16 are also sizes of other axes
    heads=st.just(4),
    shared=st.sampled_from([1, 2, 4]),
    size=st.sampled_from([4, 8]),
    rotary=st.sampled_from([None, "halves", "pairs"]),
    mask=st.sampled_from(["add", "where", "alibi"]),
    norm=st.sampled_from(["rms", "layer"]),
    seed=st.integers(0, 9),
)


def stepwise(graph: Graph, tokens: np.ndarray, sizes: list[int]) -> np.ndarray:
    """The first output, position by position, by graphs for ``sizes`` tokens one after another."""
    state, at, rows = empty_states(stepped(graph, 1)), 0, []
    for size in sizes:
        step = stepped(graph, size)
        places = np.arange(at, at + size)
        out = evaluate(step, {"x": tokens[:, places], "position": places, **state})
        state = {before: out[after] for before, after in step.states}
        rows.append(out[graph.outputs[0].name])
        at += size
    return np.concatenate(rows, 1)


@settings(max_examples=25)
@given(SHAPES, st.integers(1, 4))
def test_one_after_another(s, first):
    graph, tokens = decoder(s), tokens_of(s)
    verify(stepped(graph, first))
    sizes = [first, *[1] * (s.length - first)]
    want = evaluate(graph, {"x": tokens})["logits"]
    np.testing.assert_allclose(stepwise(graph, tokens, sizes), want, rtol=1e-4, atol=1e-5)
    assert check_steps(graph, stepped(graph, first), stepped(graph, 1), tokens) == s.length


def test_what_later_tokens_are_does_not_matter_to_kept_ones():
    """Rows of states that are not filled yet may hold anything finite."""
    s = Shape()
    graph, tokens = decoder(s), tokens_of(s)
    step = stepped(graph, 1)
    state = {name: a + 7 for name, a in empty_states(step).items()}
    feed = {"x": tokens[:, :1], "position": np.array([0])}
    clean = evaluate(step, {**feed, **empty_states(step)})["logits"]
    assert np.array_equal(evaluate(step, {**feed, **state})["logits"], clean)


def test_states_in_text(tmp_path):
    step = stepped(decoder(Shape()), 1)
    assert len(step.states) == 4
    save(step, tmp_path)
    assert load(tmp_path) == step
    assert [v.name for v in step.inputs][:2] == ["x", "position"]
    assert {n.op.name for n in step.nodes} >= {"TensorScatter", "Gather"}
    assert step["logits"].shape == (1, 1, 23)


def test_the_check_finds_a_wrong_step():
    s = Shape()
    graph = decoder(s)
    wrong = stepped(decoder(replace(s, seed=1)), 1)
    with pytest.raises(ContractError, match="token by token the outputs differ by"):
        check_steps(graph, stepped(graph, 2), wrong, tokens_of(s))


def test_more_tokens_than_positions():
    with pytest.raises(PreconditionError, match="9 tokens at once do not fit into 8 positions"):
        stepped(decoder(Shape()), 9)
