"""Recurrent layers with random weights."""

import numpy as np

from qc.ir import Graph
from qc.ir.types import type_of

RNG = np.random.default_rng(0)
BATCH, SIZE, HIDDEN = 2, 3, 4


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def network(op, length=3, state=True, bias=True, peep=False, lengths=None):
    """A layer; its sequence and initial states are inputs."""
    graph, ways, rows = Graph("g"), op.ways, op.gates * HIDDEN
    ins = [graph.input("x", type_of(normal(length, BATCH, SIZE)))]
    ins += [graph.constant(normal(ways, rows, n), "w") for n in (SIZE, HIDDEN)]
    ins.append(graph.constant(normal(ways, 2 * rows), "b") if bias else None)
    ins.append(None if lengths is None else graph.constant(np.array(lengths, np.int32)))
    start = type_of(normal(ways, BATCH, HIDDEN))
    ins += [graph.input(f"s{i}", start) if state else None for i in range(op.states)]
    if peep:
        ins.append(graph.constant(normal(ways, 3 * HIDDEN), "p"))
    graph.outputs = list(graph.add(op, ins).outputs)
    return graph
