"""onnxruntime as a fast reference: all optimisations off, because they rewrite the graph."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ...ir.errors import BackendError
from ...ir.evaluate import evaluate
from ...ir.graph import Graph
from ...ir.types import Array
from .emitter import BESIDE_FILE, Stored
from .encoded import packed_bytes
from .writer import SINGLE, Parted, parted

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue

WEIGHTS = 2**30
"""Bytes of weights above which numpy runs a graph: of maps of files it keeps what a node needs,
where onnxruntime would read all."""

Run = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass(frozen=True)
class _Opened:
    """A session that computes the values ``made`` of those ``wanted``.

    It reads the weights ``beside`` its model where they are, and does not keep them alive.
    """

    session: "InferenceSession"
    wanted: Sequence[str]
    made: Sequence[str]
    constants: Mapping[str, Array]
    beside: Mapping[str, "OrtValue"]

    def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        try:
            results = self.session.run(list(self.made), dict(feed)) if self.made else []
        except Exception as error:  # onnxruntime's own kinds have no common public base
            raise BackendError(f"onnxruntime: {' '.join(str(error).split())}") from error
        given = {name: np.asarray(array) for name, array in feed.items()}
        found = {**self.constants, **given, **dict(zip(self.made, results, strict=True))}
        return {n: found[n] for n in self.wanted}


class OnnxRuntimeExecutor:
    """Runs graphs in onnxruntime with ``threads`` threads."""

    def __init__(self, threads: int = 2) -> None:
        self.threads = threads

    def open(self, graph: Graph, names: Sequence[str] | None = None) -> Run:
        """A function from a feed to the values ``names`` (default: the graph's outputs), by name.

        Any value of the graph can be asked for, inputs and constants too.
        """
        wanted = [v.name for v in graph.outputs] if names is None else list(names)
        inputs = {v.name for v in graph.inputs}
        constants = {n: v.data for n in wanted if n in graph and (v := graph[n]).data is not None}
        made = [n for n in wanted if n not in inputs and n not in constants]
        if packed_bytes(graph) > SINGLE or _weights(graph) > WEIGHTS:
            return lambda feed: evaluate(graph, feed, wanted)
        parts = parted(graph, made).joined()
        beside = _held(parts.beside)
        return _Opened(self._session(parts, beside), wanted, made, constants, beside)

    def _session(self, parts: Parted, beside: Mapping[str, "OrtValue"]) -> "InferenceSession":
        """A session that reads large weights where they lie."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Threads that spin between runs would take the cores from numpy.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if sum(t.data.nbytes for t in parts.beside.values()) > SINGLE:
            options.add_session_config_entry("session.disable_prepacking", "1")
        options.log_severity_level = 3
        for name, value in beside.items():
            options.add_initializer(name, value)
        providers = ["CPUExecutionProvider"]
        try:
            if not beside:
                model = parts.model.SerializeToString()
                return onnxruntime.InferenceSession(model, options, providers)
            with TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                onnx.save(parts.model, str(path))
                (path.parent / BESIDE_FILE).touch()  # looked for, but not read
                return onnxruntime.InferenceSession(str(path), options, providers)
        except Exception as error:  # onnxruntime's own kinds have no common public base
            raise BackendError(f"onnxruntime: {' '.join(str(error).split())}") from error


def _weights(graph: Graph) -> int:
    return sum(v.data.nbytes for v in graph.constants if v.data is not None)


def _held(tensors: Mapping[str, Stored]) -> dict[str, "OrtValue"]:
    """Tensors for onnxruntime, where they are."""
    from onnxruntime import OrtValue

    arrays = {name: np.ascontiguousarray(t.data) for name, t in tensors.items()}
    return {name: OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
