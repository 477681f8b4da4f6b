"""Gradients of a graph's values by its constants, for passes that order channels by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from ...ir.graph import Graph
from ...ir.subgraph import subgraph
from ...ir.types import Array
from .convert import META, to_torch
from .parameters import tensor_of

Run = Callable[[Mapping[str, Array]], dict[str, Array]]


def differentiate(graph: Graph, names: Sequence[str], seed: int) -> Run:
    """A function from a feed to gradients, see ``passes.context.Gradients``.

    ``BackendError`` for ops without a form in torch, naming them.
    """
    part = subgraph(graph, names, ())
    module = to_torch(part)
    inputs = [v.name for v in part.inputs]
    known: dict[str, str] = module.meta[META]["constants"]
    weights = {known[path]: weight for path, weight in module.named_parameters()}
    signs = torch.Generator().manual_seed(seed)

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        module.zero_grad()
        found = module(*(tensor_of(feed[n]) for n in inputs))
        total = torch.zeros(())
        for value in found if isinstance(found, tuple) else (found,):
            sign = torch.randint(0, 2, value.shape, generator=signs) * 2.0 - 1.0
            scale = value.detach().square().mean().sqrt().clamp_min(1e-12)
            total = total + (value * sign).sum() / scale
        total.backward()
        return {n: w.grad.numpy().copy() for n, w in weights.items() if w.grad is not None}

    return run
