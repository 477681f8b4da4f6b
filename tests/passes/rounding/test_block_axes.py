"""Groups of integers along the inputs of a layer or along its outputs: the better one of both."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.backends.qdq.writer import to_onnx
from qc.ir import Graph, evaluate
from qc.ir.errors import PreconditionError
from qc.ir.ops import Decode
from qc.ir.verify import verify
from qc.passes import Context
from qc.passes.blocks.slots import Slots
from qc.passes.context import Kept
from qc.passes.encode import EncodeFormats
from qc.passes.measure import sqnr_db
from qc.passes.rounding.blocks import across, rounded
from qc.passes.rounding.elements import Elements
from qc.passes.rounding.group_steps import searched
from qc.passes.rounding.second_order import nearest

WIDTH = 64
LOUD = [5, 40]


def sensitive_columns(seed: int = 0) -> tuple[Graph, list[dict[str, np.ndarray]]]:
    """Two inputs that reach 30 times as far, with small weights, as norms with outliers have."""
    b = Builder((16, WIDTH), seed=seed)
    w = b.rng.normal(size=(WIDTH, WIDTH))
    w[LOUD] /= 8
    graph = b.done(b.op("MatMul", b.x, b.const(w, "w")))
    feeds = b.feeds(32)
    for feed in feeds:
        feed["x"][:, LOUD] *= 30
    return graph, feeds


def outlier_rows(seed: int = 0) -> tuple[Graph, list[dict[str, np.ndarray]]]:
    """Two outputs with weights 8 times as large."""
    b = Builder((16, WIDTH), seed=seed)
    w = b.rng.normal(size=(WIDTH, WIDTH))
    w[:, LOUD] *= 8
    return b.done(b.op("MatMul", b.x, b.const(w, "w"))), b.feeds(32)


def lost(graph: Graph, feeds: list[dict[str, np.ndarray]]) -> tuple[float, float]:
    """The energy that rounding takes of the results, with groups along inputs and along outputs."""
    formats = dict.fromkeys(EncodeFormats().formats, "") | {"weights": "int3-32"}
    (slot,) = Slots.of(graph, formats, Kept()).found
    context = Context(calibration=feeds)
    found = [rounded(graph, graph, [s], context, feeds) for s in (slot, across(slot))]
    return tuple(next(iter(f.values())).lost for f in found)


def encoded(
    graph: Graph, feeds: list[dict[str, np.ndarray]], groups: str, weights: str = "int3-32"
) -> tuple[Graph, dict[str, object]]:
    work = graph.copy()
    found = EncodeFormats(weights, groups=groups).apply(work, Context(calibration=feeds))
    verify(work)
    return work, found


@pytest.mark.parametrize("seed", range(3))
def test_sensitive_columns_want_groups_of_their_own(seed: int) -> None:
    graph, feeds = sensitive_columns(seed)
    inputs, outputs = lost(graph, feeds)
    assert outputs < inputs / 5
    work, found = encoded(graph, feeds, "best")
    assert found["across"] == 1
    plain, _ = encoded(graph, feeds, "inputs")
    ratios = [
        sqnr_db([evaluate(graph, f)[n] for f in feeds], [evaluate(g, f)[n] for f in feeds])
        for g in (plain, work)
        for n in [graph.outputs[0].name]
    ]
    assert ratios[1] > ratios[0] + 3


@pytest.mark.parametrize("seed", range(3))
def test_outlier_rows_keep_groups_along_the_inputs(seed: int) -> None:
    graph, feeds = outlier_rows(seed)
    inputs, outputs = lost(graph, feeds)
    assert inputs < outputs / 2.5
    work, found = encoded(graph, feeds, "best")
    assert found["across"] == 0
    assert work == encoded(graph, feeds, "inputs")[0]


def convolution(group: int) -> tuple[Graph, list[dict[str, np.ndarray]]]:
    """A convolution some inputs of which are loud, its weights for them small."""
    b = Builder((1, 32, 6, 6))
    w = b.rng.normal(size=(32, 32 // group, 3, 3))
    w[:, 3] /= 30
    y = b.op("Conv", b.x, b.const(w, "w"), b.normal(32), pads=(1, 1, 1, 1), group=group)
    graph = b.done(y)
    feeds = b.feeds(24)
    for feed in feeds:
        feed["x"][:, 3 :: 32 // group] *= 30
    return graph, feeds


@pytest.mark.parametrize("group", [1, 2])
def test_convolutions_and_standard_onnx(group: int) -> None:
    graph, feeds = convolution(group)
    work, found = encoded(graph, feeds, "best", "int3-16")
    assert found["across"] == 1
    decode = next(n for n in work.nodes if isinstance(n.op, Decode))
    assert (decode.op.axis, decode.output.shape) == (0, graph.nodes[0].operands[1].shape)
    work.outputs = [decode.output]
    work.prune()
    model = to_onnx(work)
    (node,) = [n for n in model.graph.node if n.op_type == "DequantizeLinear"]
    assert {a.name: a.i for a in node.attribute} == {"axis": 0, "block_size": 16}
    (ours,) = evaluate(work, feeds[0]).values()
    (theirs,) = OnnxRuntimeExecutor(1).open(work)(feeds[0]).values()
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(ours, graph.nodes[0].operands[1].data, atol=1.5)


def test_every_column_of_a_block_shares_one_step() -> None:
    graph, feeds = sensitive_columns()
    work, _ = encoded(graph, feeds, "best")
    decode = next(n for n in work.nodes if isinstance(n.op, Decode))
    (real,) = decode.op.eval([decode.operands[0].data])
    for block in np.split(real, 2, axis=1):
        for row in block:
            assert len(np.unique(row)) <= 8


def test_a_block_over_two_groups_of_channels_serves_those_whose_inputs_vary() -> None:
    rows = np.stack([np.full((2, 4), 1.0), np.full((2, 4), 0.3)])
    quiet, loud = 1e-6 * np.eye(4), np.eye(4)
    for spread, served in (([loud, quiet], 0), ([quiet, loud], 1)):
        steps = searched(rows, np.stack(spread), None, Elements.of("int3-4"))
        assert (steps == steps[0, 0]).all()
        found = nearest(rows / steps, range(-4, 4)) * steps
        lost = np.abs(found - rows).max((1, 2))
        assert lost[served] < 0.01
        assert lost[1 - served] > 0.04


def test_more_bytes_are_not_taken() -> None:
    b = Builder((16, WIDTH))
    w = b.rng.normal(size=(WIDTH, 33))
    w[LOUD] /= 30
    graph = b.done(b.op("MatMul", b.x, b.const(w, "w")))
    feeds = b.feeds(16)
    for feed in feeds:
        feed["x"][:, LOUD] *= 30
    _, found = encoded(graph, feeds, "best")
    assert found["across"] == 0
    assert found["bits_per_weight"] == 3.5


def test_without_data_groups_lie_along_the_inputs() -> None:
    graph, _ = sensitive_columns()
    plain, asked = graph.copy(), graph.copy()
    EncodeFormats("int3-32").apply(plain, Context())
    found = EncodeFormats("int3-32", groups="best").apply(asked, Context())
    assert found["across"] == 0
    assert plain == asked


def test_an_axis_that_is_none() -> None:
    with pytest.raises(
        PreconditionError, match=r"encode has no groups 'bset'; did you mean 'best'"
    ):
        EncodeFormats("int4-32", groups="bset")
