"""Networks of the zoo as the passes see them; tests skip where there is no zoo."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from qc.data.dataset import InputSpec
from qc.ir.graph import Graph, Value
from qc.ir.ops.elementwise import Cast
from qc.ir.ops.shape import ConstantOfShape
from qc.ir.types import TensorType
from qc.ir.untie import untie
from qc.loading import load_concrete
from qc.passes.canonicalize import Canonicalize
from qc.passes.context import Context

ZOO = Path(os.environ.get("QC_ZOO") or Path(__file__).parents[2] / "shared" / "zoo") / "models"

SIDES = {
    "SqueezeNet_fp16": 64, "mobilenet_v1_0.5_160_quant_deq": 96,
    "mobilenet_v2_1.0_224_quant_deq": 96, "squeezenet1.0_imagenet_fp32": 64,
}  # fmt: skip
"""Of images that are large, and that may be smaller where their size says nothing."""


def network(name: str) -> Graph:
    """A network in canonical form, without constants that layers share by accident.

    ``name`` may be a file of another kind than ``.onnx``, with its ending.
    """
    return _loaded(name).copy()


@cache  # a program of torch takes seconds
def _loaded(name: str) -> Graph:
    path = ZOO / name if (ZOO / name).is_file() else ZOO / f"{name}.onnx"
    graph = load_concrete(path, {}, _shown).copy()
    Canonicalize().apply(graph, Context())
    untie(graph)
    return graph


def _shown(specs: Sequence[InputSpec]) -> dict[str, list[int]]:
    """A batch of one, sequences of 128; windows of 576 samples for Silero's VAD."""
    if {"input", "state"} <= {s.name for s in specs}:
        return {"input": [1, 576], "state": [2, 1, 128]}
    return {
        s.name: [d if isinstance(d, int) else (1, 128)[i > 0] for i, d in enumerate(s.shape)]
        for s in specs
    }


def doubled(graph: Graph, side: int = 0) -> Graph:
    """The same network in float64, where rounding hides nothing.

    ``side``: of the images, of another size than the file says, which takes less time.
    """
    out = Graph(graph.name)
    twin: dict[int, Value] = {}
    for value in graph.inputs:
        shape = (*value.shape[:2], side, side) if side else value.shape
        twin[id(value)] = out.input(value.name, TensorType(_wide(value.type.dtype), shape))
    for value in graph.constants:
        data = np.asarray(value.data)
        twin[id(value)] = out.constant(data.astype(_wide(data.dtype.name)), value.name)
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Cast):
            op = replace(op, to=_wide(op.to))
        if isinstance(op, ConstantOfShape):
            op = replace(op, dtype=_wide(op.dtype))
        ins = [None if v is None else twin[id(v)] for v in node.inputs]
        made = out.add(op, ins, names=[v.name for v in node.outputs], origin=node.origin)
        twin.update(zip(map(id, node.outputs), made.outputs, strict=True))
    out.outputs = [twin[id(v)] for v in graph.outputs]
    return out


def _wide(dtype: str) -> str:
    return "float64" if dtype in ("float16", "float32") else dtype


def random_feed(graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Normal numbers, and small indices for integer inputs."""
    return {
        v.name: rng.standard_normal(v.shape).astype(v.type.dtype)
        if v.type.is_float
        else rng.integers(0, 60, v.shape).astype(v.type.dtype)
        for v in graph.inputs
    }
