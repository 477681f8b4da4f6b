"""The few edits of a graph keep producers, uses and names consistent."""

import numpy as np
import pytest
from graphs import Builder, residual_net

from qc.ir import Graph, TensorType, evaluate, verify
from qc.ir.errors import DataError, VerifyError
from qc.ir.graph import Node, Origin, Value
from qc.ir.ops import OPS


def chain() -> tuple[Builder, Value, Value]:
    b = Builder((1, 4))
    first = b.op("Relu", b.x, names=("first",))
    last = b.op("Add", first, first, names=("last",))
    b.done(last)
    return b, first, last


def test_uses_count_multiplicity() -> None:
    b, first, _ = chain()
    assert len(first.uses) == 2
    verify(b.graph)


def test_replace_keeps_the_outputs_name() -> None:
    b, _, last = chain()
    new = b.op("Neg", b.x)
    b.graph.replace(last, new)
    b.graph.prune()
    verify(b.graph)
    assert [v.name for v in b.graph.outputs] == ["last"]
    assert [n.op.name for n in b.graph.nodes] == ["Neg"]


def test_a_used_node_cannot_be_removed() -> None:
    b, first, _ = chain()
    with pytest.raises(VerifyError, match="is used"):
        b.graph.remove(first.producer)


def test_a_copy_is_independent() -> None:
    net = residual_net()
    before = str(net.graph)
    other = net.graph.copy()
    verify(other)
    assert str(other) == before
    other.replace(other.outputs[0], other.inputs[0])
    other.prune()
    assert str(net.graph) == before


def test_names_are_made_unique() -> None:
    b, _, _ = chain()
    assert b.op("Abs", b.x, names=("last",)).name == "last.1"
    with pytest.raises(VerifyError, match="two values"):
        b.graph.input("x", TensorType("float32", (1,)))


def test_bad_operands_name_the_place() -> None:
    b = Builder((1, 4))
    with pytest.raises(VerifyError, match="conv7"):
        b.graph.add(OPS["Conv"](), [b.x, b.x], origin=Origin("conv7"))


def test_verify_finds_a_cycle() -> None:
    b, _, _ = chain()
    b.graph.nodes.reverse()
    with pytest.raises(VerifyError, match="before it is defined"):
        verify(b.graph)


def test_verify_finds_wrong_uses() -> None:
    b, first, _ = chain()
    first.uses.pop()
    with pytest.raises(VerifyError, match="uses"):
        verify(b.graph)


def test_verify_finds_wrong_types() -> None:
    b, first, _ = chain()
    first.type = TensorType("float32", (2, 4))
    with pytest.raises(VerifyError, match="infers"):
        verify(b.graph)


def test_verify_finds_nan_and_foreign_values() -> None:
    b = Builder((1, 2))
    b.done(b.op("Add", b.x, b.const([np.nan, 1])))
    with pytest.raises(VerifyError, match="NaN"):
        verify(b.graph)
    other = Builder((1, 2))
    node = Node(OPS["Relu"](), [other.x], Origin())
    node.outputs = b.graph.nodes[-1].outputs
    b.graph.nodes.append(node)
    with pytest.raises(VerifyError, match="not of this graph"):
        verify(b.graph)


def test_verify_checks_states() -> None:
    b, _, _ = chain()
    b.graph.states.append(("x", "last"))
    verify(b.graph)
    b.graph.states.append(("x", "gone"))
    with pytest.raises(VerifyError, match="state"):
        verify(b.graph)


@pytest.mark.parametrize(
    ("feed", "what"),
    [
        ({}, "missing"),
        ({"y": np.zeros((1, 4), np.float32)}, "no input 'y'"),
        ({"x": np.zeros((2, 4), np.float32)}, "takes"),
        ({"x": np.zeros((1, 4))}, "takes"),
    ],
)
def test_a_feed_that_does_not_fit_is_refused(feed: dict, what: str) -> None:  # type: ignore[type-arg]
    b, _, _ = chain()
    with pytest.raises(DataError, match=what):
        evaluate(b.graph, feed)


def test_evaluate_gives_intermediate_values_and_watches() -> None:
    b, _, _ = chain()
    x = np.array([[-1.0, 2.0, 3.0, 0.0]], np.float32)
    seen: list[str] = []
    found = evaluate(b.graph, {"x": x}, ["first", "last"], lambda v, a: seen.append(v.name))
    assert np.array_equal(found["first"], np.maximum(x, 0))
    assert np.array_equal(found["last"], 2 * np.maximum(x, 0))
    assert seen == ["first", "last"]


def test_an_empty_graph_prints() -> None:
    assert str(Graph("empty")) == 'graph "empty" {\n}'
