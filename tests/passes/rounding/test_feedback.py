"""Rounding with feedback: every layer makes up for what the layers before it lost."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder, residual_net

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir import Graph, evaluate
from qc.ir.ops.quantize import Dequantize
from qc.passes import Context, PassManager
from qc.passes.recipe import load_recipe
from qc.passes.rounding import feedback
from qc.scoring.metrics import Sqnr


def compressed(b: Builder, samples: int = 48, **options: object) -> tuple[Graph, float]:
    """The integer network and its SQNR on data that the rounding has not seen."""
    feeds = b.feeds(samples + 24)
    recipe = load_recipe("int8", {f"quantize.{k}": v for k, v in options.items()})
    context = Context(calibration=feeds[:samples], executor=OnnxRuntimeExecutor())
    coded, _ = PassManager(recipe.passes).run(b.graph, context)
    ratio = Sqnr()
    for feed in feeds[samples:]:
        real, found = evaluate(b.graph, feed), evaluate(coded, feed)
        ratio.update(list(real.values()), [found[k] for k in real])
    return coded, ratio.db


def deep(seed: int) -> Builder:
    """Convolutions one behind the other, with a shortcut now and then."""
    b = Builder((1, 3, 10, 10), seed=seed)
    x = b.op("Relu", b.conv(b.x, 16))
    for _ in range(3):
        inner = b.op("Relu", b.conv(x, 16))
        x = b.op("Relu", b.op("Add", b.conv(inner, 16), x))
    b.done(b.linear(b.op("Flatten", b.op("GlobalAveragePool", x), axis=1), 10))
    return b


def test_four_bits_lose_less_than_layer_by_layer() -> None:
    gained = []
    for seed in range(3):
        _, apart = compressed(deep(seed), weight_bits=4, rounding="gptq")
        _, together = compressed(deep(seed), weight_bits=4, rounding="feedback")
        gained.append(together - apart)
    assert min(gained) > 0
    assert np.mean(gained) > 1


def test_every_kind_of_layer_and_codes_at_the_end() -> None:
    """Depthwise, joined, behind a residual sum, a classifier before a coded softmax."""
    coded, ratio = compressed(residual_net(), weight_bits=4, rounding="feedback")
    assert ratio > 20
    codes = [v.data for v in coded.constants if v.data is not None and v.type.dtype == "int8"]
    assert max(np.abs(c).max() for c in codes) == 7


def test_products_of_matrices_have_no_bias_to_use() -> None:
    b = Builder((4, 6, 12))
    x = b.op("Relu", b.op("MatMul", b.x, b.normal(12, 20)))
    b.done(b.op("MatMul", x, b.normal(20, 8)))
    _, apart = compressed(b, weight_bits=4, rounding="gptq")
    _, together = compressed(b, weight_bits=4, rounding="feedback")
    assert together > apart


def test_weights_on_a_grid_are_left_alone_by_eight_bits() -> None:
    found = []
    for bits, rounding in ((8, "nearest"), (8, "feedback"), (4, "nearest"), (4, "feedback")):
        b = Builder((1, 3, 8, 8))
        codes = b.rng.integers(-127, 128, (8, 3, 3, 3))
        weights = b.const(codes.astype(np.float32) * np.float32(0.0173), "w")
        x = b.op("Relu", b.op("Conv", b.x, weights, b.normal(8), pads=(1, 1, 1, 1)))
        b.done(b.conv(x, 4))
        coded, _ = compressed(b, weight_bits=bits, rounding=rounding)
        found.append([n.operands[1].data for n in coded.nodes if n.op.name == "QConv"])
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert (found[0][1] != found[1][1]).any()
    assert (found[2][0] != found[3][0]).any()


def test_layers_that_are_too_wide_are_rounded_on_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    b = deep(0)
    _, together = compressed(b, weight_bits=4, rounding="feedback")
    monkeypatch.setattr(feedback, "WIDEST", 30)
    _, apart = compressed(deep(0), weight_bits=4, rounding="feedback")
    assert together > apart > 5


def test_narrower_steps_never_lose_more() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_t(3, (2, 5, 24))
    x = rng.normal(size=(2, 24, 200))
    spread = x @ x.transpose(0, 2, 1)
    whole = np.abs(rows).max(2) / 7

    def lost(steps: np.ndarray) -> np.ndarray:
        codes = np.clip(np.rint(rows / steps[..., None]), -7, 7)
        error = codes * steps[..., None] - rows
        return np.einsum("gok,gkl,gol->go", error, spread, error)

    steps = feedback._narrowed(rows, whole, spread, 7)
    assert (lost(steps) <= lost(whole) * (1 + 1e-6)).all()
    assert (lost(steps) < 0.9 * lost(whole)).any()
    np.testing.assert_array_equal(steps, steps.astype(np.float32))


def test_dead_inputs_and_constant_rows() -> None:
    b = Builder((1, 4, 6, 6))
    w = b.rng.normal(0, 0.3, (6, 4, 3, 3))
    w[2] = 0
    dead = b.op("Mul", b.x, b.const(np.array([1, 0, 1, 0]).reshape(1, 4, 1, 1)))
    x = b.op("Relu", b.op("Conv", dead, b.const(w, "w"), b.normal(6), pads=(1, 1, 1, 1)))
    b.done(b.conv(x, 4))
    coded, ratio = compressed(b, weight_bits=4, rounding="feedback")
    assert ratio > 10
    steps = [s for n in coded.nodes if isinstance(n.op, Dequantize) for s in n.op.scale]
    assert np.isfinite(steps).all()
