"""The test cases of the ``onnx`` package through the reader and the numpy reference.

Every case comes with inputs, expected results and tolerances of its own.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from ..ir.errors import FrontendError, QcError
from ..ir.evaluate import evaluate
from ..ir.graph import Graph
from ..ir.types import Array
from .from_onnx import load
from .onnx_file import STANDARD

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
CORRECT, WRONG, UNSUPPORTED = "correct", "wrong", "unsupported"

Feed = tuple[list[Any], list[Any]]


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ``verdict`` and, unless it is correct, the reason."""

    case: "Case"
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Case:
    """One case of the ``onnx`` package."""

    kind: str
    source: Any

    @property
    def name(self) -> str:
        """Its name, without ``test_``."""
        return str(self.source.name).removeprefix("test_")

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The model, from memory or from the package's files."""
        if self.source.model is not None:
            return self.source.model  # type: ignore[no-any-return]
        return onnx.load(Path(self.source.model_dir) / "model.onnx")

    @property
    def opset(self) -> int:
        """The version of the operators of the standard domain (else of the only other one)."""
        versions = {o.domain: o.version for o in self.model.opset_import}
        return int(next((versions[d] for d in STANDARD if d in versions), min(versions.values())))

    @property
    def operators(self) -> list[str]:
        """The operators that the model's graph applies, those of other domains with the domain."""
        nodes = self.model.graph.node
        return [n.op_type if n.domain in STANDARD else f"{n.domain}.{n.op_type}" for n in nodes]

    @property
    def feeds(self) -> Iterator[Feed]:
        """Inputs and expected results, once or more."""
        if self.source.data_sets is not None:
            for ins, outs in self.source.data_sets:
                yield [*map(_array, ins)], [*map(_array, outs)]
            return
        for folder in sorted(Path(self.source.model_dir).glob("test_data_set_*")):
            graph = self.model.graph
            count = len(list(folder.glob("input_*.pb")))
            given = enumerate(graph.input[:count])
            ins = [_read(folder / f"input_{i}.pb", v.type) for i, v in given]
            outs = [_read(folder / f"output_{i}.pb", v.type) for i, v in enumerate(graph.output)]
            yield ins, outs

    def run(self) -> Outcome:
        """Import the model, evaluate it and compare.

        What the reader refuses is ``unsupported``; other exceptions than ours come through: they
        are bugs.
        """
        try:
            graph = load(self.model)
        except FrontendError as error:
            return Outcome(self, UNSUPPORTED, str(error))
        try:
            for inputs, expected in self.feeds:
                got = evaluate(graph, self._feed(graph, inputs))
                Runner.assert_similar_outputs(
                    expected, list(got.values()), self.source.rtol, self.source.atol
                )
        except (QcError, AssertionError) as error:
            return Outcome(self, WRONG, " ".join(str(error).split()))
        return Outcome(self, CORRECT)

    def _feed(self, graph: Graph, inputs: Sequence[Array]) -> dict[str, Array]:
        names = [v.name for v in self.model.graph.input]
        known = {v.name for v in graph.inputs}
        return {n: np.asarray(a) for n, a in zip(names, inputs, strict=False) if n in known}


def _read(path: Path, t: onnx.TypeProto) -> Any:
    if t.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def _array(data: Any) -> Any:
    return numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else data


def cases(kind: str) -> list[Case]:
    """The cases of one of ``KINDS``, by name; making them takes some seconds."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = load_model_tests(kind=kind)
    return sorted((Case(kind, c) for c in found), key=lambda c: c.name)
