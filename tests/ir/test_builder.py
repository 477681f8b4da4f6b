"""Folding of shape arithmetic while a graph is built."""

import numpy as np

from qc.ir import ops
from qc.ir.builder import Builder
from qc.ir.graph import Graph
from qc.ir.types import TensorType


def start(shape):
    graph = Graph()
    return graph, Builder(graph), graph.input("x", TensorType("float32", shape))


def test_integers_fold_and_floats_do_not():
    graph, builder, _ = start(("n", 2))
    two, half = graph.constant(np.array([2, 3]), "two"), graph.constant(np.float32([0.5]), "half")
    assert builder.emit(ops.Mul(), [two, two])[0].data.tolist() == [4, 9]
    product = builder.emit(ops.Mul(), [half, half])[0]
    assert product.data is None
    assert builder.static(product).tolist() == [0.25]


def test_symbols_go_through_arithmetic():
    _, builder, x = start(("n", 6))
    (shape,) = builder.emit(ops.Shape(), [x])
    assert builder.known(shape).tolist() == ["n", 6]
    two = builder.constant(np.array([2, 2]))
    (more,) = builder.emit(ops.Mul(), [shape, two])
    assert builder.known(more).tolist() == ["2*n", 12]
    (back,) = builder.emit(ops.Div(), [more, two])
    assert builder.known(back).tolist() == ["n", 6]
    assert builder.static(back) is None
    assert builder.emit(ops.Slice((1,), (2,), (0,)), [back])[0].data.tolist() == [6]


def test_what_a_symbol_may_be_is_not_guessed():
    _, builder, x = start(("n",))
    (shape,) = builder.emit(ops.Shape(), [x])
    same = builder.emit(ops.Equal(), [shape, builder.constant(np.array([1]))])[0]
    assert builder.known(same) is None
    assert builder.emit(ops.Equal(), [shape, builder.constant(np.array([-1]))])[
        0
    ].data.tolist() == [False]


def test_quantize_of_a_constant_stays():
    graph, builder, _ = start((1,))
    codes = builder.emit(ops.Quantize((0.5,), (3,)), [graph.constant(np.float32([1]))])[0]
    real = builder.emit(ops.Dequantize((0.5,), (3,)), [codes])[0]
    assert [n.op.name for n in graph.nodes] == ["Quantize", "Dequantize"]
    assert builder.static(real).tolist() == [1]


def test_a_long_network_is_not_walked():
    graph, builder, x = start((1, 8))
    for i in range(3000):
        (x,) = builder.emit(ops.Relu(), [x], [f"v{i}"])
    (best,) = builder.emit(ops.ArgMax(-1), [x])
    assert builder.emit(ops.Cast("int32"), [best])[0].data is None
    assert len(graph.nodes) == 3002
