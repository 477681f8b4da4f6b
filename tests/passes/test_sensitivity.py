"""Products of two activations stay float where their codes make more than their part of noise."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph, Value
from qc.ir.errors import PreconditionError
from qc.passes import Calibrate, Canonicalize, Context, FoldIntegers, PassManager, QuantizeStatic
from qc.passes.choose_precision import ChoosePrecision
from qc.passes.plan import plan
from qc.passes.sensitivity import _Trial, loud_products


def attention(b: Builder, spread: float) -> Value:
    """Two heads of four channels; the first one's queries and keys are ``spread`` times as big."""
    loud = np.repeat([spread, 1.0], 4)

    def heads(scale: np.ndarray) -> Value:
        weight = b.const(np.asarray(b.normal(8, 8).data) * scale)
        split = b.op("Reshape", b.op("MatMul", b.x, weight), shape=(6, 2, 4))
        return b.op("Transpose", split, perm=(1, 0, 2))

    q, k, v = heads(loud), heads(loud), heads(np.ones(8))
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=(0, 2, 1)))
    mixed = b.op("MatMul", b.op("Softmax", scores), v)
    rows = b.op("Reshape", b.op("Transpose", mixed, perm=(1, 0, 2)), shape=(6, 8))
    return b.op("MatMul", rows, b.normal(8, 5))


def compiled(b: Builder, output: Value, **options: float) -> tuple[Graph, Graph, Context]:
    """The float and the integer network, and what was decided."""
    context = Context(calibration=b.feeds(6), verify=True)
    real, _ = PassManager([Canonicalize()]).run(b.done(output), context)
    passes = [
        Calibrate(method="min-max"),
        ChoosePrecision(**options),
        QuantizeStatic(),
        FoldIntegers(),
    ]
    return real, PassManager(passes).run(real, context)[0], context


def products(graph: Graph) -> list[str]:
    """Names of the products of two activations, in order."""
    anchors = [n for n in graph.nodes if n.op.name == "MatMul"]
    return [n.name for n in anchors if not n.operands[1].is_constant]


def test_what_makes_more_than_its_part_of_the_noise_stays_float() -> None:
    b = Builder((6, 8))
    real, integer, context = compiled(b, attention(b, 12.0))
    scores, mixed = products(real)
    assert list(context.chosen_float) == [scores]
    assert " % of the noise at the outputs, which 6 layers make" in context.chosen_float[scores]
    assert context.why_float[scores] == context.chosen_float[scores]
    assert products(integer) == [scores]
    assert mixed in [n.name for n in integer.nodes if n.op.name == "QMatMul"]


def test_the_share_is_an_option() -> None:
    b = Builder((6, 8))
    real, integer, context = compiled(b, attention(b, 12.0), share=1e-6)
    assert list(context.chosen_float) == products(real)
    assert len(products(integer)) == 2
    b = Builder((6, 8))
    _, integer, context = compiled(b, attention(b, 12.0), share=100.0)
    assert context.chosen_float == {}
    assert products(integer) == []
    with pytest.raises(PreconditionError, match="share = 0 must be above zero"):
        ChoosePrecision(share=0)


def test_a_network_without_such_products_is_not_run() -> None:
    b = Builder()
    graph = b.done(b.conv(b.x, 4))
    nothing: list[dict[str, np.ndarray]] = []
    assert loud_products(graph, Context(calibration=nothing), 1.0) == {}


def test_noise_is_that_of_the_bits_that_follow() -> None:
    b = Builder((6, 8))
    context = Context(calibration=b.feeds(6))
    graph, _ = PassManager([Canonicalize(), Calibrate()]).run(b.done(attention(b, 1.0)), context)
    nodes = [n for n in graph.nodes if n.op.name == "MatMul"]
    found = []
    for bits in (8, 4):
        context.after = [QuantizeStatic(activation_bits=bits)]
        found.append(_Trial(graph, context, nodes).noise({n.name for n in nodes}))
    assert 30 * found[0] < found[1]


def test_the_trial_leaves_graph_and_context_alone() -> None:
    b = Builder((6, 8))
    context = Context(calibration=b.feeds(6))
    graph, _ = PassManager([Canonicalize(), Calibrate()]).run(b.done(attention(b, 12.0)), context)
    before, planned = str(graph), plan(graph, context.kept)
    assert loud_products(graph, context, 1.0)
    assert str(graph) == before
    assert plan(graph, context.kept) == planned
    assert context.why_float == {}
    assert context.moments
