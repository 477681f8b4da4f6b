"""Every architecture of the zoo in plain PyTorch: the graph gives what torch gives."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

import architectures  # noqa: E402

from qc.frontends import from_torch  # noqa: E402
from qc.frontends.torch_program import export  # noqa: E402
from qc.ir.evaluate import evaluate  # noqa: E402
from qc.ir.verify import verify  # noqa: E402

TOLERANCE = 1e-5


def outputs_of(module, inputs):
    """What ``module`` returns, as arrays in order."""
    with torch.no_grad():
        found = module(*inputs)
    items = found.values() if isinstance(found, dict) else [found]
    return [t.numpy() for t in items]


def relative(got, want):
    """The largest difference over the largest element."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize("name", architectures.NAMES)
def test_torch_to_ir(name):
    module, inputs = architectures.build(name)
    graph = from_torch.load(export(module, inputs))
    verify(graph)
    feed = {v.name: t.numpy() for v, t in zip(graph.inputs, inputs, strict=True)}
    found = evaluate(graph, feed)
    for got, want in zip(found.values(), outputs_of(module, inputs), strict=True):
        assert np.abs(want).max() > 0.01
        assert relative(got, want) <= TOLERANCE
