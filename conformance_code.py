"""The test cases of the ``onnx`` package through compiled code, in float, for this machine.

Hundreds of cases are one network, so that the compilers start once and kernels that several cases
need are compiled once.  Networks hold their weights and shapes as constants while cases feed them:
a case that cannot be compiled as it is gets all inputs but the first as constants.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.runner import Runner

from .backends.codegen.artifact import Artifact
from .backends.codegen.build import build
from .backends.codegen.lower import lower
from .backends.codegen.pool import Pool
from .backends.codegen.worker import Compile
from .frontends.conformance import CORRECT, UNSUPPORTED, WRONG, Case, Feed, Outcome
from .frontends.from_onnx import load
from .ir.bind import bind
from .ir.errors import BackendError, QcError
from .ir.graph import Graph, Origin, Value
from .ir.types import Array
from .passes.context import Context
from .passes.recipe import load_recipe
from .progress import Progress, Silent
from .targets import Target
from .targets import load as load_target

TOGETHER = 16
"""Cases of one network: linking takes a second, checking its ports the square of their number."""


@dataclass(frozen=True)
class Prepared:
    """A case whose network has code: its float network and its data."""

    case: Case
    graph: Graph
    data: tuple[Feed, ...]

    def feed(self, turn: int) -> dict[str, Array]:
        """The inputs of one of its data sets, the last one where there are fewer."""
        names = [v.name for v in self.case.model.graph.input]
        given = dict(zip(names, self.data[min(turn, len(self.data) - 1)][0], strict=False))
        return {v.name: np.asarray(given[v.name]) for v in self.graph.inputs}

    def judge(self, turn: int, got: Sequence[Array]) -> Outcome:
        """Whether the results of a data set are within the case's own tolerances."""
        expected = self.data[min(turn, len(self.data) - 1)][1]
        try:
            Runner.assert_similar_outputs(
                expected, list(got), self.case.source.rtol, self.case.source.atol
            )
        except AssertionError as error:
            return Outcome(self.case, WRONG, " ".join(str(error).split()))
        return Outcome(self.case, CORRECT)


def compile_cases(cases: Sequence[Case], progress: Progress | None = None) -> list[Outcome]:
    """What becomes of each case as compiled code.

    ``unsupported`` is what one of our errors refuses; any other exception is a wrong result.
    """
    target, show = load_target("host"), progress or Silent()
    done: dict[int, Outcome] = {}
    ready: dict[int, Prepared] = {}
    for i, case in enumerate(cases):
        try:
            ready[i] = prepare(case, target)
        except QcError as error:
            done[i] = Outcome(case, UNSUPPORTED, str(error))
        except Exception as error:  # a bug, whatever it is: listed, not hidden
            done[i] = _escaped(case, error)
    left = list(ready)
    show.start("conformance", len(left))
    with Pool(lasting=True) as pool:
        for first in range(0, len(left), TOGETHER):
            part = {i: ready[i] for i in left[first : first + TOGETHER]}
            done.update(_judged(part, target, pool))
            show.advance(len(part))
    show.done()
    return [done[i] for i in range(len(cases))]


def prepare(case: Case, target: Target) -> Prepared:
    """The float network of a case, lowered on trial; ``QcError`` where it has no code."""
    data = tuple(case.feeds)
    model = case.model
    try:
        return Prepared(case, _float(model, data, target), data)
    except BackendError:
        if len(data) != 1 or len(model.graph.input) < 2:
            raise
        return Prepared(case, _float(_fixed(model, data[0][0]), data, target), data)


def _float(model: onnx.ModelProto, data: Sequence[Feed], target: Target) -> Graph:
    graph = load(model)
    fed = dict(zip([v.name for v in model.graph.input], data[0][0], strict=False))
    open_inputs = [v for v in graph.inputs if any(isinstance(d, str) for d in v.type.shape)]
    shapes = {v.name: np.shape(fed[v.name]) for v in open_inputs if 0 not in np.shape(fed[v.name])}
    graph = bind(graph, shapes) if shapes else graph.copy()
    for one in load_recipe("float").passes:
        one.apply(graph, Context())
    lower(graph, target.features, keep_constants=False)
    return graph


def _fixed(model: onnx.ModelProto, inputs: Sequence[Array]) -> onnx.ModelProto:
    """The model with its inputs as constants, all but the first."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    named = [*out.graph.input]
    for value, array in list(zip(named, inputs, strict=False))[1:]:
        out.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
    del out.graph.input[:]
    out.graph.input.append(named[0])
    return out


def _judged(part: Mapping[int, Prepared], target: Target, pool: Pool) -> dict[int, Outcome]:
    """Compile some cases as one network, without those whose kernels fail, and run it."""
    with tempfile.TemporaryDirectory(prefix="qc-conformance-") as folder:
        failed: dict[int, Outcome] = {}
        try:
            build(merged(part), target, Path(folder) / "out", pool=pool)
        except BackendError:
            failed = _failing(part, target, pool)
            part = {i: one for i, one in part.items() if i not in failed}
            if not part:
                return failed
            build(merged(part), target, Path(folder) / "out", pool=pool)
        return {**failed, **_run(part, Artifact.load(Path(folder) / "out"))}


def _run(part: Mapping[int, Prepared], artifact: Artifact) -> dict[int, Outcome]:
    found: dict[int, Outcome] = {}
    for turn in range(max(len(one.data) for one in part.values())):
        feeds = {i: one.feed(turn) for i, one in part.items()}
        whole = {f"{i}/{name}": a for i, feed in feeds.items() for name, a in feed.items()}
        results = artifact.run(whole)
        for i, one in part.items():
            got = [results[f"{i}/{v.name}"] for v in one.graph.outputs]
            outcome = one.judge(turn, got)
            if i not in found or found[i].verdict == CORRECT:
                found[i] = outcome
    return found


def _failing(part: Mapping[int, Prepared], target: Target, pool: Pool) -> dict[int, Outcome]:
    """The cases of kernels that cannot be compiled, with the first reason."""
    program = lower(merged(part), target.features, keep_constants=False)
    jobs = {name: Compile(k, name, target.tvm()) for name, k in program.kernels.items()}
    found: dict[int, Outcome] = {}
    for symbol, result in pool.results(jobs):
        if not isinstance(result, str):
            continue
        verdict = UNSUPPORTED if result.startswith("BackendError") else WRONG
        for i in {int(c.node.partition("/")[0]) for c in program.calls if c.symbol == symbol}:
            found.setdefault(i, Outcome(part[i].case, verdict, f"{symbol}: {result}"))
    return found


def merged(part: Mapping[int, Prepared]) -> Graph:
    """All networks side by side; names begin with the number of the case."""
    out = Graph("conformance")
    for i, one in part.items():
        twin: dict[int, Value] = {}
        for value in one.graph.inputs:
            twin[id(value)] = out.input(f"{i}/{value.name}", value.type)
        for value in one.graph.constants:
            assert value.data is not None
            twin[id(value)] = out.constant(value.data, f"{i}/{value.name}", value.type)
        for node in one.graph.nodes:
            ins = [None if v is None else twin[id(v)] for v in node.inputs]
            names = [f"{i}/{v.name}" for v in node.outputs]
            made = out.add(node.op, ins, names=names, origin=Origin(f"{i}/{node.name}"))
            twin.update(zip(map(id, node.outputs), made.outputs, strict=True))
        out.outputs += [twin[id(v)] for v in one.graph.outputs]
    return out


def _escaped(case: Case, error: Exception) -> Outcome:
    return Outcome(case, WRONG, f"{type(error).__name__}: {' '.join(str(error).split())}")
