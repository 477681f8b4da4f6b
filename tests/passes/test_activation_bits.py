"""Activations of fewer than 8 bits: small codes in uint8, in the plan, in ranges, in integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Builder, residual_net

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.backends.qdq.writer import to_onnx
from qc.ir import Graph, evaluate
from qc.ir.errors import PreconditionError
from qc.ir.ops.quantize import Quantize
from qc.loading import load_concrete
from qc.passes import Canonicalize, Context, PassManager, QuantizeStatic
from qc.passes.measure import sqnr_db
from qc.passes.plan import plan
from qc.passes.recipe import load_recipe


def compressed(b: Builder, bits: int) -> tuple[Graph, Graph]:
    """The quantized float network and the integer one."""
    context = Context(calibration=b.feeds(12), verify=True)
    recipe = load_recipe("int8", {"quantize.activation_bits": bits})
    manager = PassManager(recipe.passes[:-1])
    quantized, ledger = manager.run(b.graph, context)
    manager.passes = recipe.passes[-1:]
    return quantized, manager.run(quantized, context, ledger)[0]


def greatest(graph: Graph, feeds: list[dict[str, np.ndarray]]) -> dict[str, int]:
    """The greatest code that occurs, by value."""
    codes = [v.name for n in graph.nodes for v in n.outputs if v.type.dtype == "uint8"]
    found = [evaluate(graph, feed, codes) for feed in feeds]
    return {name: max(int(f[name].max()) for f in found) for name in codes}


@pytest.mark.parametrize("bits", [2, 4, 7])
def test_no_code_but_the_inputs_exceeds_its_bits(bits: int) -> None:
    b = residual_net()
    _, integer = compressed(b, bits)
    loud = [{"x": 9 * feed["x"]} for feed in b.feeds(4)]
    found = greatest(integer, loud)
    inputs = [n.output.name for n in integer.nodes if isinstance(n.op, Quantize)]
    assert [found.pop(name) for name in inputs] == [255]
    assert len(found) > 8
    assert set(found.values()) <= set(range(2**bits))
    assert max(found.values()) == 2**bits - 1


def test_fewer_bits_need_no_other_ops() -> None:
    ops = [[n.op.name for n in compressed(residual_net(), bits)[1].nodes] for bits in (8, 4)]
    assert ops[0] == ops[1]


def test_every_bit_counts() -> None:
    ratios = []
    for bits in (3, 5, 8):
        b = Builder()
        b.done(b.conv(b.op("Relu", b.conv(b.x, 16)), 4))
        _, integer = compressed(b, bits)
        feeds = b.feeds(6)
        real, found = (
            [a for f in feeds for a in evaluate(g, f).values()] for g in (b.graph, integer)
        )
        ratios.append(sqnr_db(real, found))
    assert ratios[0] + 6 < ratios[1] < ratios[2] - 6


def test_standard_onnx_says_the_same() -> None:
    b = residual_net()
    quantized, _ = compressed(b, 4)
    run = OnnxRuntimeExecutor().open(quantized, ["prob"])
    for feed in b.feeds(4):
        np.testing.assert_allclose(run(feed)["prob"], evaluate(quantized, feed)["prob"], atol=1e-6)


def test_the_export_compiles_to_the_same_integers(tmp_path: Path) -> None:
    """Its clamps in front of QuantizeLinear are the bounds again, behind ops that only move too."""
    b = Builder((1, 4, 8, 8))
    x = b.op("MaxPool", b.op("Relu", b.conv(b.x, 8)), kernel=(2, 2), strides=(2, 2))
    padded = b.op("Pad", x, pads=(0, 2, 0, 0, 0, 2, 0, 0))
    b.done(b.conv(padded, 5))
    quantized, integer = compressed(b, 4)
    onnx.save(to_onnx(quantized), tmp_path / "m.onnx")
    loaded = load_concrete(tmp_path / "m.onnx", {}, lambda specs: {})
    again, ledger = PassManager(load_recipe("quantized").passes).run(loaded, Context())
    assert ledger.rows[-1].statistics["float_nodes"] == 0
    for feed in b.feeds(3):
        (want,), (got,) = (evaluate(g, feed).values() for g in (integer, again))
        np.testing.assert_array_equal(got, want)


def test_inputs_keep_8_bits_and_endings_16() -> None:
    b = Builder((1, 12, 8, 8))
    moved = b.op("DepthToSpace", b.x, blocksize=2)
    inner = b.op("Relu", b.conv(moved, 8))
    pooled = b.op("Flatten", b.op("GlobalAveragePool", b.conv(inner, 6)), axis=1)
    graph = b.done(b.op("Softmax", pooled, names=("prob",)))
    PassManager([Canonicalize()]).run(graph, Context())
    bits = plan(graph, activation_bits=4).bits
    assert (bits["x"], bits[moved.name], bits[inner.name]) == (8, 8, 4)
    assert bits[pooled.name] == 16
    assert sorted(set(plan(graph).bits.values())) == [8, 16]


def test_ranges_fit_the_bits() -> None:
    b = Builder((1, 3, 16, 16))
    hidden = b.op("Relu", b.conv(b.x, 16))
    b.done(b.conv(hidden, 4))
    context = Context(calibration=b.feeds(8))
    for one in load_recipe("int8").passes[:4]:
        one.apply(b.graph, context)
    known = context.ranges[hidden.name]
    assert known.span(4)[1] < 0.97 * known.span(8)[1] <= known.greatest
    assert known.span(16)[1] == known.greatest


@pytest.mark.parametrize("bits", [1, 9])
def test_widths_that_a_uint8_does_not_hold_are_refused(bits: int) -> None:
    with pytest.raises(PreconditionError, match=f"activation_bits = {bits} must be from 2 to 8"):
        QuantizeStatic(activation_bits=bits)
