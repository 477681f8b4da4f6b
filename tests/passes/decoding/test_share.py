"""Heads that share keys and values are kept once."""

import numpy as np
import pytest
from decoders import Decoder, Shape, decoder
from graphs import Builder

from qc.passes.decoding.share import shared
from qc.passes.decoding.step import stepped


@pytest.mark.parametrize(("heads", "kept"), [(1, 1), (2, 2), (4, 4)])
def test_states_have_the_heads_that_differ(heads, kept):
    one = stepped(decoder(Shape(shared=heads)), 1)
    assert [v.shape for v in one.inputs[2:4]] == [(1, kept, 4, 8), (1, kept, 8, 4)]
    groups = {n.op.group for n in one.nodes if n.op.name == "CachedAttention"}
    assert groups == {4 // heads}
    assert heads == 4 or "Expand" not in {n.op.name for n in one.nodes}


class Gathered(Decoder):
    """Heads are repeated by a gather, as PyTorch's own grouped attention is read."""

    order = (0, 0, 1, 1)

    def repeat(self, x):
        return self.op("Gather", x, self.graph.constant(np.array(self.order)), axis=1)


class Alternating(Gathered):
    """Not beside one another: these heads have no common form."""

    order = (0, 1, 0, 1)


def test_gathered_heads():
    one = stepped(Gathered(Shape()).build(), 1)
    assert one.inputs[2].shape == (1, 2, 4, 8)
    other = stepped(Alternating(Shape()).build(), 1)
    assert other.inputs[2].shape == (1, 4, 4, 8)


def test_how_heads_share():
    b = Builder((1, 6, 2, 4))
    x = b.op("Unsqueeze", b.x, axes=(3,))
    x = b.op("Reshape", b.op("Expand", x, shape=(1, 6, 2, 3, 4)), shape=(1, 6, 6, 4))
    k = b.op("Transpose", x, perm=(0, 2, 3, 1))
    found = shared(k)
    assert (found.root, found.perm, found.times) == (b.x, (0, 2, 3, 1), 3)
    assert shared(b.x) is None
    assert shared(b.op("Transpose", b.x, perm=(0, 2, 1, 3))) is None


def test_without_a_fused_attention_nothing_is_repeated(monkeypatch):
    from qc.passes.decoding import step

    monkeypatch.setattr(step, "fuse_attention", lambda *_: 0)
    one = step.stepped(decoder(Shape()), 1)
    assert one.inputs[2].shape == (1, 4, 4, 8)
