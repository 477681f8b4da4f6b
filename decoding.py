"""A decoder from a causal network: its graphs, and the check that they say the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .ir.errors import PreconditionError
from .ir.graph import Graph, Value
from .ir.types import Array
from .passes.canonicalize import Canonicalize
from .passes.context import Context, Feed
from .passes.decoding.check import check_steps
from .passes.decoding.step import stepped
from .passes.decoding.stretch import stretched

PROMPT = 16
"""Tokens of a prompt that are taken together."""


@dataclass(frozen=True)
class Decoding:
    """A network of whole sequences, the graph for one token and that for several of a prompt."""

    whole: Graph
    step: Graph
    prompt: Graph
    capacity: int
    checked: int

    @property
    def note(self) -> str:
        """For people."""
        return (
            f"A decoder for up to {self.capacity} tokens: {len(self.step.states)} states, prompts "
            f"{self.prompt.inputs[0].shape[1]} tokens at a time. Token by token it says what the "
            f"whole sequence says ({self.checked} positions compared)."
        )

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it; its ``inputs`` and ``outputs`` are the whole network's."""
        ports = {
            name: {"inputs": _table(graph.inputs), "outputs": _table(graph.outputs)}
            for name, graph in (("step", self.step), ("prompt", self.prompt))
        }
        return {
            "inputs": _table(self.whole.inputs),
            "outputs": _table(self.whole.outputs),
            "decoder": {"capacity": self.capacity, "states": self.step.states, **ports},
        }


def check_causal(graph: Graph, capacity: int) -> None:
    """``PreconditionError`` where a loaded network will not become a decoder."""
    graph = graph.copy()
    Canonicalize().apply(graph, Context())
    stepped(_long(graph, capacity), 1)


def _long(graph: Graph, capacity: int) -> Graph:
    if capacity < 1:
        raise PreconditionError(f"a capacity of {capacity} tokens: it must be at least 1")
    return stretched(graph, capacity)


def decoding_of(graph: Graph, capacity: int, feed: Feed) -> Decoding:
    """The decoder of a network after all passes, for sequences of up to ``capacity`` tokens.

    Checked against ``graph`` on the tokens of ``feed``.  Raises ``PreconditionError`` where the
    network is not causal or cannot be that long, ``ContractError`` where the check fails.
    """
    long = _long(graph, capacity)
    step, prompt = stepped(long, 1), stepped(long, min(PROMPT, capacity))
    checked = check_steps(long, prompt, step, _tokens(long, feed))
    whole = graph if capacity >= graph.inputs[0].shape[1] else long
    return Decoding(whole, step, prompt, capacity, checked)


def _tokens(graph: Graph, feed: Feed) -> Array:
    """The tokens of a feed, again and again."""
    value = graph.inputs[0]
    return np.stack([np.resize(row, value.shape[1]) for row in feed[value.name]])


def _table(values: list[Value]) -> list[dict[str, object]]:
    return [{"name": v.name, "dtype": v.type.dtype, "shape": list(v.shape)} for v in values]
