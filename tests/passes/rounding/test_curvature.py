"""Errors of rows that make up for each other, by what the outputs notice."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder

import qc
from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir import Graph, evaluate
from qc.ir.errors import PreconditionError
from qc.passes import Context
from qc.passes.encode import EncodeFormats
from qc.passes.rounding.curvature import DAMPING, curvatures, noticed, rounded_in_turn
from qc.passes.rounding.elements import Elements
from qc.passes.rounding.group_steps import searched
from qc.passes.rounding.second_order import BEST, second_order

RNG = np.random.default_rng(0)
TOKENS, WIDTH, SCORED = 24, 32, 16


def scores() -> Graph:
    """``(x Q) (x K)^T V``: keys lie in three directions, so most of what a query errs is lost."""
    b = Builder((1, TOKENS, WIDTH))
    few = b.normal(WIDTH, 3).data @ b.normal(3, SCORED).data
    q = b.op("MatMul", b.x, b.normal(WIDTH, SCORED))
    k = b.op("MatMul", b.x, b.const(few, "few"))
    s = b.op("MatMul", q, b.op("Transpose", k, perm=(0, 2, 1)))
    v = b.op("MatMul", b.x, b.normal(WIDTH, 20))
    return b.done(b.op("MatMul", s, v))


def feeds(count: int, seed: int = 1) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((1, TOKENS, WIDTH)).astype("f4")} for _ in range(count)]


def layers(graph: Graph) -> list[str]:
    return [n.output.name for n in graph.nodes if n.op.name == "MatMul"
            and n.operands[1].is_constant]  # fmt: skip


def rounder(elements: Elements, spread: np.ndarray, groups: np.ndarray):
    def rounded(rows):
        steps = searched(rows, spread, groups, elements)
        return second_order(rows, steps, spread, 10**6, elements.nearest, BEST, 1), steps

    return rounded


def problem(directions: int, rows: int = 16, width: int = 24):
    mixed = RNG.standard_normal((300, width)) @ RNG.standard_normal((width, width))
    spread = (mixed.T @ mixed / 300)[None]
    felt = RNG.standard_normal((rows, directions))
    curvature = felt @ felt.T / directions
    curvature += DAMPING * np.diag(curvature).mean() * np.eye(rows)
    return RNG.standard_normal((1, rows, width)), spread, curvature


@pytest.mark.parametrize(("directions", "gain"), [(2, 0.75), (6, 0.95), (400, 1.0)])
def test_few_directions_are_worth_most_and_none_loses(directions: int, gain: float) -> None:
    elements, ratios = Elements.of("int4-8"), []
    for _ in range(4):
        rows, spread, curvature = problem(directions)
        rounded = rounder(elements, spread, np.arange(24) // 8)
        codes, steps = rounded(rows)
        before = noticed(codes * steps - rows, spread, curvature)
        codes, steps = rounded_in_turn(rows, spread, curvature, rounded)
        ratios.append(noticed(codes * steps - rows, spread, curvature) / before)
        assert (codes == elements.nearest(codes)).all()
    assert max(ratios) <= 1
    assert np.mean(ratios) <= gain


def test_rows_in_rounds_also_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qc.passes.rounding.curvature.TURNS", 4)
    rows, spread, curvature = problem(2)
    rounded = rounder(Elements.of("int4-8"), spread, np.arange(24) // 8)
    codes, steps = rounded(rows)
    before = noticed(codes * steps - rows, spread, curvature)
    codes, steps = rounded_in_turn(rows, spread, curvature, rounded)
    assert noticed(codes * steps - rows, spread, curvature) < 0.9 * before


def test_curvature_is_what_an_error_makes_of_the_outputs() -> None:
    """Of a query's channels: ``K^T (V V^T) K`` summed over tokens, as the product rule says."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    graph, seen = scores(), feeds(300)
    found = curvatures(graph, layers(graph), Context(gradients=qc.TorchGradients()), seen)
    name = layers(graph)[0]
    expected = np.zeros((SCORED, SCORED))
    for feed in seen:
        names = [n.output.name for n in graph.nodes if n.op.name == "MatMul"]
        values = evaluate(graph, feed, names)
        k, v, y = (values[names[i]][0].astype(float) for i in (1, 3, 4))
        expected += (k.T @ v) @ (k.T @ v).T / np.square(y).mean()
    level = np.diagonal(expected).mean()
    expected = (expected + DAMPING * level * np.eye(SCORED)) / (level * (1 + DAMPING))
    np.testing.assert_allclose(found[name], expected, atol=0.1 * np.abs(expected).max())
    assert set(found) < set(layers(graph))  # values have no few directions


def test_outputs_err_less() -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    errors = {}
    for curvature in (False, True):
        graph = scores()
        context = Context(
            calibration=feeds(32), executor=OnnxRuntimeExecutor(), gradients=qc.TorchGradients()
        )
        EncodeFormats(weights="int3-16", curvature=curvature).apply(graph, context)
        lost = 0.0
        for feed in feeds(16, seed=2):
            real, coded = (evaluate(g, feed)[g.outputs[0].name] for g in (scores(), graph))
            lost += float(np.square(real - coded).sum() / np.square(real).sum())
        errors[curvature] = lost
    assert errors[True] < 0.9 * errors[False]


def test_without_gradients_it_says_what_to_do() -> None:
    context = Context(calibration=feeds(2))
    with pytest.raises(PreconditionError, match=r"encode.curvature.*TorchGradients\(\)"):
        EncodeFormats(weights="int4-16", curvature=True).apply(scores(), context)
