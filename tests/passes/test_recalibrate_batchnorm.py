"""Statistics of batch norms, set from data in the order of the network."""

from __future__ import annotations

import numpy as np
from graphs import Builder

from qc import passes
from qc.ir.evaluate import evaluate
from qc.passes import Context, PassManager


def network() -> tuple[Builder, list[dict[str, np.ndarray]]]:
    b = Builder((1, 3, 6, 6))
    x = b.op("Relu", b.batch_norm(b.conv(b.x, 8)))
    x = b.op("Relu", b.batch_norm(b.conv(x, 8)))
    b.done(b.conv(x, 4))
    return b, b.feeds(10)


def test_every_norm_gives_zero_mean_and_unit_variance_on_the_data() -> None:
    b, feeds = network()
    manager = PassManager([passes.Canonicalize(), passes.RecalibrateBatchNorm()])
    graph, ledger = manager.run(b.graph, Context(calibration=feeds))
    assert ledger.rows[-1].rewrites == 2
    for node in graph.nodes:
        if node.op.name != "BatchNormalization":
            continue
        found = [evaluate(graph, f, [node.output.name])[node.output.name] for f in feeds]
        seen = np.concatenate(found).astype(np.float64)
        gamma, beta = (np.asarray(v.data) for v in node.operands[1:3])
        np.testing.assert_allclose(seen.mean((0, 2, 3)), beta, atol=1e-4)
        np.testing.assert_allclose(seen.std((0, 2, 3)), np.abs(gamma), rtol=1e-3)


def test_a_network_without_norms_stays() -> None:
    b = Builder()
    b.done(b.conv(b.x, 4))
    manager = PassManager([passes.Canonicalize(), passes.RecalibrateBatchNorm()])
    graph, ledger = manager.run(b.graph, Context())
    assert ledger.rows[-1].rewrites == 0
    assert str(graph.nodes[0]) == str(b.graph.nodes[0])
