"""Scores of words by the table that words are read from: one table, encoded once."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph, evaluate
from qc.ir.formats import parse
from qc.ir.verify import verify
from qc.passes import Context
from qc.passes.encode import EncodeFormats
from qc.passes.measure import weight_bytes

WORDS, CHANNELS = 30, 32
TIED = {"weights": "int4-32", "tables": "int8-32"}


def language_model(form: str) -> tuple[Graph, np.ndarray]:
    """A table and a layer that multiplies by the same numbers, in a constant of its own."""
    b = Builder((1, 5), dtype="int64")
    b.dtype = "float32"
    table = b.normal(WORDS, CHANNELS)
    rows = b.op("Gather", table, b.x)
    if form == "Gemm":
        rows = b.op("Reshape", rows, shape=(5, CHANNELS))
        y = b.op("Gemm", rows, b.const(table.data.copy()), trans_b=True)
    elif form == "shared":
        rows = b.op("Reshape", rows, shape=(5, CHANNELS))
        y = b.op("Gemm", rows, table, trans_b=True)
    else:
        y = b.op("MatMul", rows, b.const(np.ascontiguousarray(table.data.T)))
    return b.done(y), table.data


@pytest.mark.parametrize("form", ["MatMul", "Gemm", "shared"])
def test_a_tied_table_is_encoded_once_for_both_of_its_readers(form: str) -> None:
    graph, table = language_model(form)
    EncodeFormats(**TIED).apply(graph, Context())
    verify(graph)
    f = parse("int8-32")
    assert weight_bytes(graph) == WORDS * f.bytes(CHANNELS)
    ids = np.array([[3, 0, 29, 7, 7]])
    (y,) = evaluate(graph, {"x": ids}).values()
    rounded = f.round(table, 1)
    # the order of numpy's sums depends on where its operands lie
    want = rounded[ids[0]] @ rounded.T
    np.testing.assert_allclose(y.reshape(5, WORDS), want, rtol=1e-5, atol=1e-6)


def test_why_float_does_not_name_a_layer_that_reads_an_encoded_table() -> None:
    graph, _ = language_model("MatMul")
    context = Context()
    EncodeFormats(**TIED).apply(graph, context)
    product = next(n for n in graph.nodes if n.op.name == "MatMul")
    assert product.name not in context.why_float


def test_without_a_format_for_tables_each_has_its_own() -> None:
    graph, _ = language_model("MatMul")
    EncodeFormats("int4-32").apply(graph, Context())
    assert [n.op.name for n in graph.nodes].count("Decode") == 2


def test_other_numbers_are_not_tied() -> None:
    graph, _ = language_model("MatMul")
    product = next(n for n in graph.nodes if n.op.name == "MatMul")
    weights = product.operands[1].data.copy()
    weights[-1, -1] += 1
    graph.set_inputs(product, [product.inputs[0], graph.constant(weights, "other")])
    EncodeFormats(**TIED).apply(graph, Context())
    formats = sorted(n.op.format for n in graph.nodes if n.op.name == "Decode")
    assert formats == ["int4-32", "int8-32"]


def test_a_layer_that_is_kept_float_keeps_its_weights() -> None:
    graph, table = language_model("MatMul")
    product = next(n for n in graph.nodes if n.op.name == "MatMul")
    EncodeFormats(**TIED).apply(graph, Context(keep_float=(product.name,)))
    assert product.operands[1].is_constant
    np.testing.assert_array_equal(product.operands[1].data, table.T)
