"""Every architecture of the zoo in plain PyTorch: the graph gives what torch gives."""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

import architectures  # noqa: E402
from architectures import exported  # noqa: E402

import qc  # noqa: E402
from qc.backends.torch_fx.convert import to_torch  # noqa: E402
from qc.frontends import from_onnx, from_torch  # noqa: E402
from qc.frontends.torch_program import export  # noqa: E402
from qc.ir.evaluate import evaluate  # noqa: E402
from qc.ir.verify import verify  # noqa: E402

TOLERANCE = 1e-5


def outputs_of(module, inputs):
    """What ``module`` returns, as arrays in order."""
    with torch.no_grad():
        found = module(*inputs)
    items = found.values() if isinstance(found, dict) else found
    items = [items] if isinstance(items, torch.Tensor) else items
    return [t.numpy() for t in items]


def relative(got, want):
    """The largest difference over the largest element."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


def values_of(graph, inputs):
    """What ``graph`` gives, in order."""
    feed = {v.name: t.numpy() for v, t in zip(graph.inputs, inputs, strict=True)}
    return list(evaluate(graph, feed).values())


@pytest.fixture(scope="module", params=architectures.NAMES)
def network(request, tmp_path_factory):
    """A module, its inputs, and the graph made of it."""
    module, inputs = architectures.build(request.param)
    graph = from_torch.load(export(module, inputs))
    verify(graph)
    exported.keep(request.param, graph, tmp_path_factory)
    return module, inputs, graph


def test_torch_to_ir(network):
    module, inputs, graph = network
    for got, want in zip(values_of(graph, inputs), outputs_of(module, inputs), strict=True):
        assert np.abs(want).max() > 0.01
        assert relative(got, want) <= TOLERANCE


def test_ir_to_torch_and_back(network):
    module, inputs, graph = network
    back = to_torch(graph)
    pairs = zip(outputs_of(back, inputs), outputs_of(module, inputs), strict=True)
    assert max(relative(got, want) for got, want in pairs) <= TOLERANCE
    assert {n for n, _ in module.named_parameters()} <= {n for n, _ in back.named_parameters()}
    again = from_torch.load(export(back, inputs))
    assert [n.op.name for n in again.nodes] == [n.op.name for n in graph.nodes]
    pairs = zip(values_of(again, inputs), values_of(graph, inputs), strict=True)
    assert all(np.array_equal(got, want) for got, want in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.NAMES)
def test_torch_to_onnx_to_ir(name):
    """torch's own exporter has a second opinion."""
    pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")
    module, inputs = architectures.build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(module, inputs, dynamo=True, verbose=False)
    graph = from_onnx.load(exported.model_proto)
    pairs = zip(values_of(graph, inputs), outputs_of(module, inputs), strict=True)
    assert max(relative(got, want) for got, want in pairs) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet", "unet", "swin", "llama", "vim"])
def test_int8(name):
    """Compiled code is the reference (``compile`` checks it), and near the network."""
    module, inputs = architectures.build(name)
    graph = qc.load(module, inputs)
    names = [v.name for v in graph.inputs]
    artifact = qc.compile(graph, calibration=architectures.feeds(inputs, names, 16))
    (feed,) = architectures.feeds(inputs, names, 1, seed=2)
    for output, want in evaluate(graph, feed).items():
        noise = np.square(artifact.run(feed)[output] - want).sum()
        assert 10 * np.log10(np.square(want).sum() / noise) > 25
