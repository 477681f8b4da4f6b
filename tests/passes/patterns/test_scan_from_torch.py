"""Mamba's block as people write it in PyTorch: one scan each, equal to torch."""

from __future__ import annotations

import numpy as np
import pytest
from zoo_networks import ZOO, network

torch = pytest.importorskip("torch")

from architectures import build, feeds  # noqa: E402

import qc  # noqa: E402
from qc.ir import Graph, evaluate, ops, verify  # noqa: E402
from qc.passes import Canonicalize, Context  # noqa: E402

CHANNELS, STATES, LENGTH = 6, 4, 7


class Block(torch.nn.Module):
    """u, z, delta, B and C from one input; subclasses scan."""

    def __init__(self) -> None:
        super().__init__()
        self.project = torch.nn.Linear(5, 3 * CHANNELS + 2 * STATES)
        self.A_log = torch.nn.Parameter(torch.rand(CHANNELS, STATES))
        self.D = torch.nn.Parameter(torch.rand(CHANNELS))

    def forward(self, x):
        sizes = [CHANNELS] * 3 + [STATES] * 2
        u, z, delta, b, c = self.project(x).split(sizes, -1)
        delta = torch.nn.functional.softplus(delta)
        return self.scan(u, delta, -torch.exp(self.A_log), b, c) * torch.nn.functional.silu(z)


class HuggingFace(Block):
    """``MambaMixer.slow_forward`` of transformers: channels before time."""

    def scan(self, u, delta, a, b, c):
        u, delta = u.transpose(1, 2), delta.transpose(1, 2)
        decay = torch.exp(a[None, :, None, :] * delta[:, :, :, None])
        added = delta[:, :, :, None] * b[:, None, :, :].float() * u[:, :, :, None].float()
        state, found = u.new_zeros(u.shape[0], CHANNELS, STATES), []
        for i in range(u.shape[2]):
            state = decay[:, :, i, :] * state + added[:, :, i, :]
            found.append(torch.matmul(state, c[:, i, :].unsqueeze(-1))[:, :, 0])
        y = torch.stack(found, dim=-1) + u * self.D[None, :, None]
        return y.transpose(1, 2)


class Minimal(Block):
    """``selective_scan`` of mamba-minimal: all by einsum."""

    def scan(self, u, delta, a, b, c):
        decay = torch.exp(torch.einsum("bld,dn->bldn", delta, a))
        added = torch.einsum("bld,bln,bld->bldn", delta, b, u)
        state, found = torch.zeros(u.shape[0], CHANNELS, STATES), []
        for i in range(u.shape[1]):
            state = decay[:, i] * state + added[:, i]
            found.append(torch.einsum("bdn,bn->bd", state, c[:, i, :]))
        return torch.stack(found, dim=1) + u * self.D


class Reference(Block):
    """``selective_scan_ref`` of mamba_ssm: channels first, states of all steps by einsum."""

    def scan(self, u, delta, a, b, c):
        u, delta, b, c = (v.transpose(1, 2) for v in (u, delta, b, c))
        decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, a))
        added = torch.einsum("bdl,bnl,bdl->bdln", delta, b, u)
        state, found = a.new_zeros((u.shape[0], CHANNELS, STATES)), []
        for i in range(u.shape[2]):
            state = decay[:, :, i] * state + added[:, :, i]
            found.append(torch.einsum("bdn,bn->bd", state, c[:, :, i]))
        y = torch.stack(found, dim=2)
        return (y + u * self.D.unsqueeze(-1)).transpose(1, 2)


def canonical(module, inputs) -> tuple[Graph, int]:
    """The canonical graph, as close to torch as the one before it; how many scans it has."""
    graph = qc.load(module, inputs)
    names = [v.name for v in graph.inputs]
    Canonicalize().apply(graph, Context())
    verify(graph)
    for feed in feeds(inputs, names, 2):
        with torch.no_grad():
            wanted = module(*(torch.from_numpy(feed[n]) for n in names)).numpy()
        (found,) = evaluate(graph, feed).values()
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    return graph, sum(isinstance(n.op, ops.SelectiveScan) for n in graph.nodes)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("block", [HuggingFace, Minimal, Reference])
def test_blocks(block, batch: int) -> None:
    torch.manual_seed(0)
    graph, count = canonical(block().eval(), (torch.randn(batch, LENGTH, 5),))
    assert count == 1
    (scan,) = (n for n in graph.nodes if isinstance(n.op, ops.SelectiveScan))
    assert scan.op.softplus
    assert [v is not None for v in scan.inputs] == [True] * 7
    assert not {n.op.name for n in graph.nodes} & {"Exp", "Softplus", "Silu", "ReduceSum", "Mul"}


@pytest.mark.parametrize("name", ["mamba", "vim"])
def test_architectures(name: str) -> None:
    graph, count = canonical(*build(name))
    assert count == 2
    assert not {n.op.name for n in graph.nodes} & {"Exp", "Softplus", "ReduceSum", "Mul"}


def test_there_and_back() -> None:
    """The module of a canonical graph trains, and its scan is recovered again."""
    torch.manual_seed(0)
    inputs = (torch.randn(1, LENGTH, 5),)
    graph, _ = canonical(HuggingFace().eval(), inputs)
    module = qc.to_torch(graph)
    module(*inputs).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())
    _, count = canonical(module, inputs)
    assert count == 1


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
def test_all_forms_of_a_network_become_the_same_graph() -> None:
    names = ["mamba_shakespeare_scan.onnx", "mamba_shakespeare_plain.onnx", "mamba_shakespeare.pt2"]
    graphs = [network(name) for name in names]
    kinds = [[n.op for n in g.nodes] for g in graphs]
    assert kinds[0] == kinds[1] == kinds[2]
    assert sum(isinstance(op, ops.SelectiveScan) for op in kinds[0]) == 3
    feed = {"tokens": np.random.default_rng(0).integers(0, 65, (1, 128))}
    results = [next(iter(evaluate(g, feed).values())) for g in graphs]
    for other in results[1:]:
        assert np.abs(other - results[0]).max() <= 1e-5 * np.abs(results[0]).max()
