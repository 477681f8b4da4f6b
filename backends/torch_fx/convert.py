"""From a graph to a ``torch.fx.GraphModule``: it computes the same and can be trained.

Constants become parameters or buffers (see :mod:`.parameters`) under their own names, so that
``state_dict`` looks like that of the network the graph came from.  ``forward`` takes the inputs in
order and returns the output, or a tuple of them; ``module.meta["qc"]`` keeps their names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import fx, nn
from torch.fx import Node as Step

from ...ir.errors import BackendError
from ...ir.graph import Graph, Node, Value
from .emitter import Site
from .forms import FORMS
from .parameters import Attributes

META = "qc"


def to_torch(graph: Graph, frozen: Sequence[str] = ()) -> fx.GraphModule:
    """A module in evaluation mode with ``graph``'s meaning.

    ``frozen``: patterns of constants that stay buffers.  Raises ``BackendError`` naming all nodes
    that have no form in torch: integer ops, custom ops, control flow.
    """
    _refuse(graph)
    root = nn.Module()
    lines = fx.Graph(root)
    steps: dict[int, Step] = {}
    attributes = Attributes(root, frozen)

    def step(value: Value) -> Step:
        if id(value) not in steps:
            steps[id(value)] = lines.get_attr(attributes.path(value))
        return steps[id(value)]

    for value in graph.inputs:
        steps[id(value)] = lines.placeholder(re.sub(r"\W", "_", value.name))
    for node in graph.nodes:
        results = FORMS[node.op.name](Site(node, lines, step))
        found = [results] if isinstance(results, fx.Node) else list(results)
        steps.update(zip(map(id, node.outputs), found, strict=True))
    outputs = tuple(map(step, graph.outputs))
    lines.output(outputs[0] if len(outputs) == 1 else outputs)
    lines.lint()
    module = fx.GraphModule(root, lines, re.sub(r"\W", "_", graph.name) or "Graph")
    module.meta[META] = names_of(graph, attributes)
    return module.eval()


def names_of(graph: Graph, attributes: Attributes) -> dict[str, Any]:
    """The names that a module cannot hold: of inputs, outputs, and of constants by their paths."""
    paths = attributes.paths
    return {
        "inputs": [v.name for v in graph.inputs],
        "outputs": [v.name for v in graph.outputs],
        "constants": {paths[id(v)]: v.name for v in graph.constants if id(v) in paths},
    }


def _refuse(graph: Graph) -> None:
    odd = [node for node in graph.nodes if node.op.name not in FORMS]
    if odd:
        listed = "; ".join(_shown(node) for node in odd[:8])
        more = f"; and {len(odd) - 8} more" if len(odd) > 8 else ""
        raise BackendError(
            f"{len(odd)} nodes have no form in torch (take the graph before it is quantized): "
            f"{listed}{more}"
        )


def _shown(node: Node) -> str:
    return f"{node.name!r} {node.op.name}"
