"""Criteria: what they measure is what removal does, to the order that they claim."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder, residual_net

import qc
from qc import passes
from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir.actions import mask
from qc.ir.coupling import ChannelGroup, Coupling
from qc.ir.errors import PreconditionError
from qc.ir.evaluate import evaluate
from qc.ir.types import Array
from qc.passes import Context, PassManager
from qc.passes.linear import Linear
from qc.passes.measure import macs
from qc.passes.pruning.importance import fluctuations
from qc.passes.pruning.readers import readers
from qc.passes.pruning.taylor import taylor
from qc.passes.statistics.moments import Moments


def two_layers() -> Builder:
    """Two products and nothing between them: what removal does is linear in the weights."""
    b = Builder((4, 6))
    hidden = b.op("MatMul", b.x, b.normal(6, 5))
    b.done(b.op("MatMul", hidden, b.normal(5, 3)))
    return b


def group_of(coupling: Coupling) -> ChannelGroup:
    return coupling.deletable()[0]


def change(coupling: Coupling, component: int, feed: dict[str, Array]) -> float:
    """How far the output moves, squared and relative to its power."""
    gone = np.zeros(coupling.count, bool)
    gone[component] = True
    name = coupling.graph.outputs[0].name
    whole = evaluate(coupling.graph, feed)[name]
    return float(np.square(evaluate(mask(coupling, gone), feed)[name] - whole).sum()) / float(
        np.square(whole).mean()
    )


def test_taylor_predicts_what_removal_does() -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    b = two_layers()
    coupling = Coupling(b.graph)
    group, feed = group_of(coupling), b.feeds(1)[0]
    context = Context(gradients=qc.TorchGradients())
    # the columns of the second layer alone: to the first order of a linear function, all of it
    readers_only = ChannelGroup(
        group.channels, [p for p in group.places if p.axis == 0 and p.value.type.rank == 2],
        group.pinned, group.fixed,
    )  # fmt: skip
    (found,) = taylor(coupling, [readers_only], context, [feed] * 1500, "mean")
    real = [change(coupling, int(c), feed) for c in group.channels]
    np.testing.assert_allclose(found, real, rtol=0.25)


def test_fluctuations_are_what_a_mean_loses() -> None:
    b = two_layers()
    coupling = Coupling(b.graph)
    group, feeds = group_of(coupling), b.feeds(64)
    (reader,) = (r for r in readers(coupling) if np.isin(r.elements, group.channels).any())
    name = reader.layer.node.operands[0].name
    moments = Moments(Linear(reader.layer.node))
    seen = [evaluate(b.graph, feed, [name])[name] for feed in feeds]
    for x in seen:
        moments.add(x)
    found = fluctuations(group, [reader], {reader.name: moments})
    x, weights = np.concatenate(seen), reader.layer.weights()[0, :, :, 0]
    lost = x.var(0) * np.square(weights).sum(0)
    np.testing.assert_allclose(found, lost / lost.sum(), rtol=1e-4)


@pytest.mark.parametrize("criterion", ["taylor", "fluctuation"])
@pytest.mark.parametrize("allocation", ["ranked", "auto"])
def test_budgets_hold(criterion: str, allocation: str) -> None:
    if criterion == "taylor":
        pytest.importorskip("torch", reason="the extra torch is not installed")
    net = residual_net()
    context = Context(
        calibration=net.feeds(8), gradients=qc.TorchGradients(), executor=OnnxRuntimeExecutor()
    )
    steps = [
        passes.Canonicalize(),
        passes.PruneChannels(macs=0.7, criterion=criterion, allocation=allocation),
    ]
    small, _ = PassManager(steps).run(net.graph, context)
    assert 0.6 < macs(small) / macs(net.graph) <= 0.7


def test_taylor_without_gradients_says_what_to_do() -> None:
    net = residual_net()
    steps = [passes.Canonicalize(), passes.PruneChannels(macs=0.7, criterion="taylor")]
    with pytest.raises(PreconditionError, match=r"TorchGradients\(\)"):
        PassManager(steps).run(net.graph, Context(calibration=net.feeds(4)))
