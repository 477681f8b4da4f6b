"""Networks that cannot be shown to be causal are refused, naming the node that is why."""

import numpy as np
import pytest
from decoders import Decoder, Shape, decoder
from graphs import Builder

from qc.ir import Graph, ops
from qc.ir.errors import PreconditionError
from qc.ir.graph import Value
from qc.passes.decoding.times import timing


class Twisted(Decoder):
    """A decoder with something done to its scores, or to its rows before attention."""

    scores = staticmethod(lambda b, v: v)
    weights = staticmethod(lambda b, v: v)
    rows = staticmethod(lambda b, v: v)

    def masked(self, scores: Value) -> Value:
        return self.scores(self, super().masked(scores))

    def norm(self, x: Value) -> Value:
        return self.rows(self, super().norm(x))


def refusal(graph: Graph) -> str:
    """The message of a refusal, in one line."""
    with pytest.raises(PreconditionError) as caught:
        timing(graph)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def twisted(**how) -> Graph:
    return type("Case", (Twisted,), {k: staticmethod(f) for k, f in how.items()})(Shape()).build()


def test_what_is_found():
    graph = decoder(Shape())
    found = timing(graph)
    assert found.length == 8
    assert len(found.cached) == 4
    by_op = {n.op.name: found.of(n.output) for n in graph.nodes}
    assert (by_op["Softmax"].query, by_op["Softmax"].key, by_op["Softmax"].above) == (2, 3, 0.0)
    assert by_op["RMSNormalization"].key is None


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"scores": lambda b, v: b.op("Relu", v)}, "no mask hides later positions"),
        ({"scores": lambda b, v: b.op("Mul", v, b.const(1e-8))}, "no mask hides later positions"),
        ({"scores": lambda b, v: b.op("Softmax", v, axis=2)}, "op Softmax over positions"),
        ({"scores": lambda b, v: b.op("Transpose", v, perm=(0, 1, 3, 2))}, "over positions"),
        ({"rows": lambda b, v: b.op("CumSum", v, b.graph.constant(np.array(1)))}, "CumSum may mix"),
        ({"rows": lambda b, v: b.op("Slice", v, starts=(7,), ends=(-9,), axes=(1,), steps=(-1,))},
         "in another order"),
        ({"rows": lambda b, v: b.op("Sub", v, b.op("ReduceMean", v, axes=(1,)))},
         "op ReduceMean over positions"),
        ({"rows": lambda b, v: b.op("Gather", v, b.graph.constant(np.arange(8) ^ 1), axis=1)},
         "takes some of the positions"),
        ({"rows": lambda b, v: b.op("MatMul", b.normal(1, 8, 8), v)}, "positions are summed over"),
        ({"rows": lambda b, v: b.op("Reshape", b.op("Reshape", v, shape=(1, 4, 32)),
                                    shape=(1, 8, 16))}, "joined with another axis"),
    ],
)  # fmt: skip
def test_refused(how, message):
    text = refusal(twisted(**how))
    assert message in text
    assert "node '" in text


def test_refused_without_a_mask():
    graph = decoder(Shape(mask="none"))
    softmax = next(n for n in graph.nodes if n.op.name == "Softmax")
    assert refusal(graph) == (
        f"not causal as far as can be shown: node {softmax.name!r}: "
        "no mask hides later positions from this softmax"
    )


def test_a_mask_that_lets_one_position_through():
    graph = decoder(Shape())
    for value in list(graph.constants):
        if value.data is not None and value.data.shape == (1, 1, 8, 8):
            leaky = value.data.copy()
            leaky[0, 0, 2, 5] = 0
            graph.assign(value, leaky)
    assert "no mask hides later positions" in refusal(graph)


@pytest.mark.parametrize("masked", [True, False])
def test_an_attention_without_softmax(masked):
    b = Builder((1, 8), dtype="int64")
    b.dtype = "float32"
    x = b.op("Gather", b.normal(5, 16), b.x)
    scores = b.op("MatMul", x, b.op("Transpose", x, perm=(0, 2, 1)))
    if masked:
        scores = b.op("Mul", scores, b.const(np.tri(8)))
    graph = b.done(b.op("MatMul", scores, x))
    if masked:
        assert len(timing(graph).cached) == 2
    else:
        assert "later positions are not masked" in refusal(graph)


def test_inputs_that_are_no_tokens():
    b = Builder((1, 8, 16))
    assert "one input, tokens int64[batch, length], not %x: float32[1,8,16]" in refusal(b.done(b.x))


def test_without_attention():
    b = Builder((1, 8), dtype="int64")
    b.dtype = "float32"
    text = refusal(b.done(b.op("Gather", b.normal(5, 16), b.x)))
    assert "nothing to keep between steps" in text


def test_an_output_without_positions():
    graph = decoder(Shape())
    last = graph.add(ops.Slice((7,), (8,), (1,)), [graph.outputs[0]])
    graph.outputs = [last.output]
    assert "takes some of the positions" in refusal(graph)
