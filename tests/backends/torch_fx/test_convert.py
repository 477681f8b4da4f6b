"""Graphs as modules: names, what can be trained, the way back, symbolic shapes."""

import copy
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from torch import nn  # noqa: E402

import qc  # noqa: E402
from qc.ir import Graph  # noqa: E402
from qc.ir.ops import OPS  # noqa: E402
from qc.ir.types import TensorType  # noqa: E402
from qc.passes.canonicalize import Canonicalize  # noqa: E402
from qc.passes.context import Context  # noqa: E402
from qc.passes.fold_batchnorm import FoldBatchNorm  # noqa: E402


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Linear(16, 4)
        self.gain = nn.Parameter(torch.ones(4))
        self.register_buffer("table", torch.randn(2, 4))
        self.register_buffer("mask", torch.tensor([0.0, 0.0, -1e9, 0.0]))
        self.register_buffer("offset", torch.randn(4))

    def forward(self, x):
        y = self.head(self.features(x).mean((2, 3)))
        return (y * self.table * 0.5 + self.mask + self.offset) * self.gain


X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def net():
    return Net().eval()


@pytest.fixture
def graph(net):
    return qc.load(net, X)


def test_parameters_and_buffers_keep_their_names(net, graph):
    module = qc.to_torch(graph, frozen=[n for n, _ in net.named_buffers()])
    assert {n for n, _ in module.named_parameters()} == {n for n, _ in net.named_parameters()}
    state = net.state_dict()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name])
    assert torch.equal(module(X), net(X))


def test_what_is_no_weight_is_a_buffer(graph):
    module = qc.to_torch(graph)
    buffers = {n for n, _ in module.named_buffers()}
    assert buffers == {"features.1.running_mean", "features.1.running_var", "table", "mask"}
    assert "offset" in dict(module.named_parameters())
    assert "offset" in dict(qc.to_torch(graph, frozen=["off*"]).named_buffers())


def test_the_module_owns_its_weights(graph):
    module, before = qc.to_torch(graph), graph["head.weight"].data.copy()
    with torch.no_grad():
        module.head.weight.zero_()
    assert np.array_equal(graph["head.weight"].data, before)


def test_gradients_are_those_of_the_network(net, graph):
    module = qc.to_torch(graph)
    for m in (net, module):
        m(X).square().sum().backward()
    grads = {n: p.grad for n, p in net.named_parameters()}
    ours = {n: p.grad for n, p in module.named_parameters() if n != "offset"}
    assert set(ours) == set(grads)
    for name, grad in ours.items():
        assert grad.abs().max() > 0
        assert torch.allclose(grad, grads[name], rtol=1e-5, atol=1e-6), name


def test_a_network_is_trained_and_taken_back(graph):
    target = torch.randn(2, 4, generator=torch.Generator().manual_seed(2))
    Canonicalize().apply(graph, Context())
    FoldBatchNorm().apply(graph, Context())
    module = qc.to_torch(graph)
    optimizer = torch.optim.SGD(module.parameters(), 0.02)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (module(X) - target)[:, :2].square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]
    trained = qc.load(module, X)
    got = qc.evaluate(trained, {"x": X.numpy()})["output"]
    want = module(X).detach().numpy()
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    assert np.abs(got - qc.evaluate(graph, {"x": X.numpy()})["output"])[:, :2].max() > 0.01
    compiled = qc.compile(trained, recipe="float")
    again = compiled.run({"x": X.numpy()})["output"]
    assert np.abs(again - want).max() <= 1e-5 * np.abs(want).max()


def odd_names():
    """A graph whose names are none of Python's, with several outputs."""
    graph = Graph("a/b")
    x = graph.input("input.1", TensorType("float32", ("batch", 4)))
    w = graph.constant(np.eye(4, dtype=np.float32), "onnx::MatMul_3")
    inner = graph.constant(np.ones(4, np.float32), "onnx::MatMul_3.bias")
    y = graph.add(OPS["MatMul"](), [x, w], names=["/fc/MatMul"]).output
    z = graph.add(OPS["Add"](), [y, inner], names=["3"]).output
    flat = graph.add(OPS["Reshape"](shape=(0, 2, 2)), [z], names=["out.put"]).output
    graph.outputs = [z, flat]
    return graph


def test_names_that_python_does_not_know_come_back():
    graph = odd_names()
    module = qc.to_torch(graph)
    assert set(module.state_dict()) == {"onnx__MatMul_3", "onnx__MatMul_3_bias"}
    a, b = module(torch.ones(3, 4))
    assert (tuple(a.shape), tuple(b.shape)) == ((3, 4), (3, 2, 2))
    back = qc.load(module, torch.ones(3, 4))
    assert [v.name for v in (*back.inputs, *back.outputs)] == ["input.1", "3", "out.put"]


def test_a_symbolic_batch_stays_open():
    program = torch.export.export(
        qc.to_torch(odd_names()), (torch.ones(3, 4),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    graph = qc.load(program)
    assert graph.inputs[0].type.shape[1:] == (4,)
    assert isinstance(graph.inputs[0].type.shape[0], str)
    x = np.ones((5, 4), np.float32)
    assert list(qc.evaluate(graph, {"input_1": x}).values())[1].shape == (5, 2, 2)


def test_a_tied_weight_is_one_parameter():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens))

    module = qc.to_torch(qc.load(Tied(), torch.tensor([[1, 2, 3]])))
    assert [n for n, _ in module.named_parameters()] == ["embed.weight"]


def test_modules_are_copied_and_pickled(graph):
    module = qc.to_torch(graph)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(X), module(X))
