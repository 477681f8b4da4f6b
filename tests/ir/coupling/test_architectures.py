"""The architectures in plain PyTorch: their groups are exact, and 30 % of their MACs can go."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

import architectures  # noqa: E402

from qc.backends.qdq.executor import OnnxRuntimeExecutor  # noqa: E402
from qc.frontends import from_torch  # noqa: E402
from qc.frontends.torch_program import export  # noqa: E402
from qc.ir import Graph  # noqa: E402
from qc.ir.coupling import Coupling  # noqa: E402
from qc.ir.untie import untie  # noqa: E402
from qc.ir.verify import verify  # noqa: E402
from qc.passes import Canonicalize, Context, PruneChannels  # noqa: E402
from qc.passes.measure import macs  # noqa: E402

from .masking import difference, some  # noqa: E402

pytestmark = pytest.mark.slow

Feed = dict[str, np.ndarray]


@cache
def network(name: str) -> tuple[Graph, list[Feed]]:
    """In canonical form, and a few feeds; nobody may change them."""
    module, inputs = architectures.build(name)
    graph = from_torch.load(export(module, inputs))
    Canonicalize().apply(graph, Context())
    untie(graph)
    return graph, architectures.feeds(inputs, [v.name for v in graph.inputs], 5)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_masked_equals_sliced(name: str) -> None:
    graph, feeds = network(name)
    coupling, rng = Coupling(graph), np.random.default_rng(3)
    groups = coupling.deletable()
    assert len(groups) >= 2
    for fraction in (0.25, 0.5):
        assert difference(coupling, some(coupling, groups, fraction, rng), feeds[0]) <= 1e-5


@pytest.mark.parametrize("name", architectures.NAMES)
def test_thirty_percent(name: str) -> None:
    graph, feeds = network(name)
    small = graph.copy()
    how = PruneChannels(macs=0.7, allocation="ranked")
    how.apply(small, Context(calibration=feeds, executor=OnnxRuntimeExecutor()))
    verify(small)
    assert 0.66 <= macs(small) / macs(graph) <= 0.7
