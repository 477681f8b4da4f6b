"""The architectures in plain PyTorch: their groups are exact, and 30 % of their MACs can go."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

import architectures  # noqa: E402
from architectures import exported  # noqa: E402

from qc.backends.qdq.executor import OnnxRuntimeExecutor  # noqa: E402
from qc.ir import Graph  # noqa: E402
from qc.ir.coupling import Coupling  # noqa: E402
from qc.ir.untie import untie  # noqa: E402
from qc.ir.verify import verify  # noqa: E402
from qc.passes import Canonicalize, Context, PruneChannels  # noqa: E402
from qc.passes.measure import macs  # noqa: E402

from .masking import difference, some  # noqa: E402

pytestmark = pytest.mark.slow

Feed = dict[str, np.ndarray]


@pytest.fixture(scope="module", params=architectures.NAMES)
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Graph, list[Feed]]:
    """In canonical form, and a few feeds; nobody may change them."""
    graph, inputs = exported.graph_of(request.param, tmp_path_factory)
    Canonicalize().apply(graph, Context())
    untie(graph)
    return graph, architectures.feeds(inputs, [v.name for v in graph.inputs], 5)


def test_masked_equals_sliced(network: tuple[Graph, list[Feed]]) -> None:
    graph, feeds = network
    coupling, rng = Coupling(graph), np.random.default_rng(3)
    groups = coupling.deletable()
    assert len(groups) >= 2
    for fraction in (0.25, 0.5):
        assert difference(coupling, some(coupling, groups, fraction, rng), feeds[0]) <= 1e-5


def test_thirty_percent(network: tuple[Graph, list[Feed]]) -> None:
    graph, feeds = network
    small = graph.copy()
    how = PruneChannels(macs=0.7, allocation="ranked")
    how.apply(small, Context(calibration=feeds, executor=OnnxRuntimeExecutor()))
    verify(small)
    assert 0.66 <= macs(small) / macs(graph) <= 0.7
