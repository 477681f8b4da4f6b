"""onnxruntime as a fast reference: all optimisations off, because they rewrite the graph."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ...ir.errors import BackendError
from ...ir.graph import Graph
from ...ir.types import Array
from .writer import is_large, to_onnx

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Run = Callable[[Mapping[str, Array]], dict[str, Array]]


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
        session = self._session(to_onnx(graph, made))

        def run(feed: Mapping[str, Array]) -> dict[str, Array]:
            try:
                results = session.run(made, dict(feed)) if made else []
            except Exception as error:  # onnxruntime's own kinds have no common public base
                raise BackendError(f"onnxruntime: {' '.join(str(error).split())}") from error
            found = {**constants, **{n: np.asarray(feed[n]) for n in inputs if n in wanted}}
            found.update(zip(made, results, strict=True))
            return {n: found[n] for n in wanted}

        return run

    def _session(self, model: onnx.ModelProto) -> "InferenceSession":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Threads that spin between runs would take the cores from numpy.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        try:
            if not is_large(model):
                return onnxruntime.InferenceSession(model.SerializeToString(), options, providers)
            with TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                onnx.save(model, str(path), save_as_external_data=True, location="weights")
                return onnxruntime.InferenceSession(str(path), options, providers)
        except Exception as error:  # onnxruntime's own kinds have no common public base
            raise BackendError(f"onnxruntime: {' '.join(str(error).split())}") from error
