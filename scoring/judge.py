"""The metric of a network on evaluation data: as it was loaded, after passes, and compiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data.dataset import Dataset
from ..ir.evaluate import evaluate
from ..ir.graph import Graph
from ..ir.types import Array
from ..progress import Progress
from ..reporting.report import Facts
from ..targets import Target, missing_features
from . import runs as scoring
from .metrics import metric


@dataclass
class Judge:
    """Measures the metric of graphs on the evaluation data, against the network as loaded."""

    loaded: Graph
    data: Dataset
    name: str
    max_drop: float | None
    progress: Progress
    before: float | None = None

    def measure(self, graph: Graph) -> float:
        """The metric of a float or Q/DQ graph, or of integers by the numpy reference."""
        from ..backends.qdq.executor import OnnxRuntimeExecutor

        if "integer" in graph.properties:
            return self._score(lambda feed: evaluate(graph, feed))
        return self._score(OnnxRuntimeExecutor().open(graph, self._outputs))

    @property
    def allowed(self) -> float:
        """Points that the metric may drop."""
        return math.inf if self.max_drop is None else self.max_drop

    def drop(self, graph: Graph) -> float:
        """Points by which a float, quantized or integer graph is worse than the one loaded."""
        if self.before is None:
            self.before = self.measure(self.loaded)
        return metric(self.name).drop(self.before, self.measure(graph))

    def verdict(self, directory: Path, folded: Graph, target: Target, ledger: list[Facts]) -> Facts:
        """The metrics of the compiled code (for other machines: the reference) and of the float."""
        if missing_features(target):
            value = self._score(lambda feed: evaluate(folded, feed))
        else:
            from ..backends.codegen.artifact import Artifact

            value = self._score(Artifact.load(directory).run)
        before = ledger[0]["metric"]
        assert isinstance(before, float)
        ledger[-1]["metric"] = value
        return {
            "metric": self.name,
            "samples": self.data.samples,
            "float": before,
            "compiled": value,
            "drop": metric(self.name).drop(before, value),
            "max_drop": self.max_drop,
        }

    @property
    def _outputs(self) -> list[str]:
        return [v.name for v in self.loaded.outputs]

    def _score(self, run: Callable[..., Mapping[str, Array]]) -> float:
        from ..backends.qdq.executor import OnnxRuntimeExecutor

        reference = None
        if metric(self.name).needs_reference:
            reference = OnnxRuntimeExecutor().open(self.loaded, self._outputs)
        return scoring.score(
            run, self._outputs, self.data, self.name, reference, self.progress
        ).value
