"""The same network for other lengths."""

import numpy as np
import pytest
from decoders import Shape, decoder, tokens_of
from hypothesis import given, settings
from hypothesis import strategies as st

from qc.ir.errors import PreconditionError
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify
from qc.passes.decoding.stretch import stretched


@settings(max_examples=15)
@given(
    st.sampled_from(["halves", "pairs"]), st.sampled_from(["add", "where", "alibi"]),
    st.sampled_from([3, 5, 20]),
)  # fmt: skip
def test_it_is_the_network_of_that_length(rotary, mask, length):
    """Weights do not depend on the length, so that the longer network can be made directly."""
    s = Shape(rotary=rotary, mask=mask, length=8)
    other = stretched(decoder(s), length)
    verify(other)
    tokens = tokens_of(s, length=length)
    want = evaluate(decoder(Shape(rotary=rotary, mask=mask, length=length)), {"x": tokens})
    got = evaluate(other, {"x": tokens})
    np.testing.assert_allclose(got["logits"], want["logits"], rtol=1e-4, atol=1e-5)


def test_the_same_length_is_the_same_graph():
    graph = decoder(Shape())
    assert stretched(graph, 8) is graph


def test_learned_positions_are_cut_but_not_made_up():
    s = Shape(rotary=None)
    graph, tokens = decoder(s), tokens_of(s)
    want = evaluate(graph, {"x": tokens})["logits"][:, :5]
    got = evaluate(stretched(graph, 5), {"x": tokens[:, :5]})["logits"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    with pytest.raises(PreconditionError, match=r"has 8 positions and .* capacity of at most 8"):
        stretched(graph, 9)


@pytest.mark.parametrize("base", [10000.0, 500.0])
def test_rotary_tables_of_real_sizes(base):
    """128 rows of 32 frequencies continue to 2048 within float32's rounding of the angle."""
    from qc.passes.decoding.stretch import _rows

    w = base ** (-np.arange(32) / 32)
    for function in (np.cos, np.sin):
        want = function(np.arange(1024)[:, None] * w)
        got = _rows(want[:128].astype(np.float32), 0, 1024)
        assert np.abs(got - want).max() < 1e-4


def test_a_mask_of_a_window_is_not_made_up():
    graph = decoder(Shape())
    for value in list(graph.constants):
        if value.data is not None and value.data.shape == (1, 1, 8, 8):
            mask = value.data.copy()
            mask[0, 0][np.tri(8, k=-4, dtype=bool)] = -1e9
            graph.assign(value, mask)
    assert stretched(graph, 6).inputs[0].shape == (1, 6)
    with pytest.raises(PreconditionError, match="follows no rule"):
        stretched(graph, 9)
