"""What becomes one op of attention, and what stays as it is."""

import numpy as np
import pytest
from decoders import Shape, decoder, tokens_of

from qc.ir import ops
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify
from qc.passes.decoding import step as steps
from qc.passes.decoding.step import empty_states, stepped


def kinds(graph):
    return [n.op.name for n in graph.nodes]


@pytest.mark.parametrize("mask", ["add", "where", "alibi"])
def test_the_same_as_its_parts(mask, monkeypatch):
    graph, tokens = decoder(Shape(mask=mask)), tokens_of(Shape())
    one = stepped(graph, 1)
    verify(one)
    assert kinds(one).count("CachedAttention") == 2
    assert "Softmax" not in kinds(one)
    monkeypatch.setattr(steps, "fuse_attention", lambda *_: 0)
    apart = stepped(graph, 1)
    assert kinds(apart).count("Softmax") == 2
    feed = {"x": tokens[:, :1], "position": np.array([2])}
    got, want = (evaluate(g, feed | empty_states(g))["logits"] for g in (one, apart))
    assert np.array_equal(got, want)


def test_weights_that_others_read_stay():
    graph = decoder(Shape(layers=1))
    product = next(n for n in graph.nodes if n.op.name == "MatMul" and _weighs(n))
    other = graph.add(ops.MatMul(), product.operands).output
    graph.outputs.append(graph.add(ops.Transpose((0, 2, 1, 3)), [other]).output)
    one = stepped(graph, 1)
    assert "CachedAttention" not in kinds(one)
    assert len(one.states) == 2, "both products look at the same keys and values"


def _weighs(node):
    made = node.operands[0].producer
    return made is not None and made.op.name == "Softmax"
