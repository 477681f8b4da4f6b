"""Fixing symbolic dimensions."""

import numpy as np
import pytest

from qc.ir import ops
from qc.ir.bind import bind, free_symbols
from qc.ir.builder import Builder
from qc.ir.errors import FrontendError
from qc.ir.evaluate import evaluate
from qc.ir.graph import Graph
from qc.ir.types import TensorType
from qc.ir.verify import verify


@pytest.fixture
def graph() -> Graph:
    """``y = expand(bias, shape of x) + x``: the target shape has two symbols."""
    graph = Graph()
    builder = Builder(graph)
    x = graph.input("x", TensorType("float32", ("n", "t", 4)))
    bias = graph.constant(np.arange(4, dtype=np.float32), "bias")
    (shape,) = builder.emit(ops.Shape(), [x])
    (wide,) = builder.emit(ops.Expand(), [bias, shape], ["wide"])
    (y,) = builder.emit(ops.Add(), [wide, x], ["y"])
    graph.outputs = [y]
    return graph


def test_a_symbolic_shape_is_inferred_and_evaluated(graph):
    verify(graph)
    assert graph["wide"].type.shape == ("n", "t", 4)
    x = np.ones((2, 3, 4), np.float32)
    assert (evaluate(graph, {"x": x})["y"] == x + np.arange(4)).all()


def test_bind_fixes_types_and_folds_shapes(graph):
    bound = bind(graph, {"n": 2, "t": 3})
    verify(bound)
    assert free_symbols(graph) == ["n", "t"]
    assert free_symbols(bound) == []
    assert [n.op for n in bound.nodes] == [ops.Expand((2, 3, 4)), ops.Add()]
    assert bound.outputs[0].name == "y"
    assert bound.outputs[0].shape == (2, 3, 4)
    assert graph.outputs[0].type.shape == ("n", "t", 4), "the original is left alone"


def test_bind_by_input_or_in_part(graph):
    assert bind(graph, {"x": (2, 3, 4)}) == bind(graph, {"n": 2, "t": 3})
    part = bind(graph, {"n": 2})
    verify(part)
    assert part.outputs[0].type.shape == (2, "t", 4)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"m": 2}, "no symbolic dimension 'm'"),
        ({"z": (1, 2, 3)}, "no input 'z'"),
        ({"x": (1, 2)}, "not of shape"),
        ({"x": (1, 2, 5)}, "is 4, not 5"),
        ({"n": 2, "x": (3, 3, 4)}, "is 2, not 3"),
        ({"n": 0}, "not 0"),
    ],
)
def test_wrong_shapes_are_refused(graph, shapes, message):
    with pytest.raises(FrontendError, match=message):
        bind(graph, shapes)
