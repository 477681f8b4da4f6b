"""Where a compressed network departs from the float one, layer by layer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ..data.dataset import Dataset, specs_of
from ..ir.errors import DataError
from ..ir.evaluate import evaluate
from ..ir.graph import Graph, Node, Value
from ..ir.types import Array, PerAxis, PerTensor
from ..loading import load_concrete
from ..passes.canonicalize import Canonicalize
from ..passes.context import Context
from ..passes.equalize import Equalize
from ..passes.measure import node_macs
from ..passes.prune_channels import PruneChannels
from ..passes.reorder import Reorder
from ..passes.rotate import Rotate
from ..progress import Progress, Silent
from ..reporting.layers import MOVES
from .alignment import Alignment

STEPS = 4
"""Nodes behind a value that may have been fused with what makes it."""

SCALING = frozenset({Equalize.name})
MIXING = frozenset({PruneChannels.name, Rotate.name, Reorder.name})
"""Passes that leave other channels inside a network that computes the same."""

SKIPPED = MOVES | {"Hadamard"}
"""Ops that compute nothing of the float network's."""


@dataclass(frozen=True)
class Departure:
    """One result of the compressed network against a value of the float one.

    ``value``: the float network's; ``compared``: see :mod:`qc.diagnosis.alignment`; ``sqnr_db``:
    None where there were too few samples to tell, or nothing differs; ``lost_db``: how much less
    than the worst of what it reads; ``added``: noise over power that this makes; ``macs``:
    multiplications.
    """

    name: str
    op: str
    value: str
    compared: str
    sqnr_db: float | None
    lost_db: float | None
    added: float
    macs: int


@dataclass(frozen=True)
class Departures:
    """All layers in their order, the outputs by name, and how many results have no counterpart."""

    layers: list[Departure]
    outputs: dict[str, float | None]
    unmatched: int
    samples: int


@dataclass
class _Pair:
    """A result of the compressed network, and the float values that it may stand for."""

    node: Node
    value: Value
    candidates: dict[Value, Alignment]

    def add(self, ours: Array, real: Mapping[str, Array]) -> None:
        """Count one feed."""
        for value, alignment in self.candidates.items():
            alignment.add(ours, real[value.name])

    @property
    def best(self) -> tuple[Value, str, float | None]:
        """The nearest value, and how far it is."""
        found = [(v, *a.best) for v, a in self.candidates.items()]
        return max(found, key=lambda one: -math.inf if one[2] is None else one[2])


def departures(
    model: str | Path,
    artifact: str | Path,
    data: str | Path,
    samples: int = 8,
    preprocess: str | Path | None = None,
    progress: Progress | None = None,
) -> Departures:
    """Run the float network and the numpy reference of the artifact, and compare all results.

    Raises ``DataError`` where they take other inputs, or have nothing in common.
    """
    from ..backends.qdq.executor import OnnxRuntimeExecutor
    from ..models import reference_graph

    if samples < 1:
        raise DataError(f"--samples {samples} is less than 1")
    ours = reference_graph(artifact)
    specs = specs_of(ours)
    shapes = {s.name: [int(d) for d in s.shape] for s in specs}
    real = load_concrete(model, shapes, lambda unknown: {})
    _check_alike(real, ours, model, artifact)
    Canonicalize().apply(real, Context())
    ran = _passes(Path(artifact))
    pairs, unmatched = _pairs(ours, real, bool(ran & (SCALING | MIXING)), bool(ran & MIXING))
    if not pairs:
        raise DataError(f"{artifact} has no layer of {model}: was it compiled from another model?")
    names = list(dict.fromkeys(v.name for p in pairs for v in p.candidates))
    run = OnnxRuntimeExecutor().open(real, names)
    feeds = list(islice(Dataset(data, specs, preprocess), samples))
    show = progress or Silent()
    show.start("compare", len(feeds))
    for feed in feeds:
        found, made = run(feed), _results(ours, feed, pairs)
        for pair in pairs:
            pair.add(made[pair.value.name], found)
        show.advance()
    show.done()
    return Departures(*_judged(ours, pairs), unmatched, len(feeds))


def _check_alike(real: Graph, ours: Graph, model: str | Path, artifact: str | Path) -> None:
    theirs, own = ({s.name: s.shape for s in specs_of(g)} for g in (real, ours))
    if theirs != own:
        raise DataError(f"{model} takes {theirs}, but {artifact} takes {own}")
    if not {v.name for v in real.outputs} & {v.name for v in ours.outputs}:
        raise DataError(f"{artifact} has no output of {model}: was it compiled from another model?")


def _passes(artifact: Path) -> set[str]:
    """The passes that changed something, by the artifact's report."""
    try:
        rows = json.loads((artifact / "report.json").read_text(encoding="utf-8"))["ledger"]
        return {str(row["pass"]) for row in rows if row["rewrites"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{artifact}/report.json cannot be read, which lists the passes: {error}"
        ) from error


def _pairs(ours: Graph, real: Graph, scaled: bool, mixed: bool) -> tuple[list[_Pair], int]:
    """What can be compared, in order, and the number of results that have no counterpart."""
    sources = {n.origin.source: n.outputs[0] for n in real.nodes if n.origin.source}
    pairs, unmatched = [], 0
    for node in ours.nodes:
        value = node.outputs[0]
        if node.op.name in SKIPPED or len(node.outputs) > 1 or not _is_real(value):
            continue
        found = [c for start in _starts(node, real, sources) for c in _behind(start, real)]
        fitting = [c for c in dict.fromkeys(found) if _comparable(value, c)]
        if fitting:
            candidates = {c: Alignment(scaled, mixed) for c in fitting}
            pairs.append(_Pair(node, value, candidates))
        else:
            unmatched += 1
    return pairs, unmatched


def _is_real(value: Value) -> bool:
    """Whether its numbers can be told: floats, or codes of one scale that is known."""
    quant = value.type.quant
    if quant is None or isinstance(quant.scale, str):
        return value.type.is_float
    return isinstance(quant.granularity, PerTensor | PerAxis)


def _starts(node: Node, real: Graph, sources: Mapping[str, Value]) -> list[Value]:
    """The value of the same name, without what passes appended, and that of the same source."""
    name = node.outputs[0].name
    while name not in real and "." in name:
        name = name.rpartition(".")[0]
    found = [real[name]] if name in real and not real[name].is_constant else []
    twin = sources.get(node.origin.source)
    return [*found, *([twin] if twin is not None else [])]


def _behind(start: Value, real: Graph) -> list[Value]:
    """A value, and results of the cheap nodes behind it that have its shape."""
    found, last = [start], [start]
    for _ in range(STEPS):
        last = [
            n.outputs[0]
            for v in last
            for n in v.uses
            if not node_macs(n) and n.outputs[0].type.shape == start.type.shape
        ]
        found += last
    return found


def _comparable(ours: Value, real: Value) -> bool:
    """Whether they have one rank and differ in one axis at most."""
    a, b = ours.type.shape, real.type.shape
    differing = sum(x != y for x, y in zip(a, b, strict=False))
    return real.type.is_float and len(a) == len(b) > 0 and differing <= 1


def _results(graph: Graph, feed: Mapping[str, Array], pairs: Sequence[_Pair]) -> dict[str, Array]:
    """Real numbers of all that is compared, by name."""
    wanted, found = {p.value.name for p in pairs}, {}

    def watch(value: Value, array: Array) -> None:
        if value.name in wanted:
            found[value.name] = _real(value, array)

    evaluate(graph, feed, watch=watch)
    return found


def _real(value: Value, array: Array) -> Array:
    quant = value.type.quant
    if quant is None or value.type.is_float:
        return array
    assert not isinstance(quant.scale, str)
    points = quant.zero_point
    assert not isinstance(points, str)
    if not isinstance(quant.granularity, PerAxis):
        return (array - np.float64(points[0])) * np.float64(quant.scale[0])
    shape = [1] * array.ndim
    shape[quant.granularity.axis] = -1
    scale, zero = (np.reshape(np.array(x, np.float64), shape) for x in (quant.scale, points))
    return np.asarray((array - zero) * scale)


def _judged(
    graph: Graph, pairs: Sequence[_Pair]
) -> tuple[list[Departure], dict[str, float | None]]:
    """Every layer's figure, and what it lost on the way from what it reads."""
    known = {p.value.name: p.best for p in pairs}
    quality: dict[str, float] = {}
    layers = []
    for node in graph.nodes:
        before = [quality[v.name] for v in node.operands if v.name in quality]
        worst = min(before, default=None)
        own = known.get(node.outputs[0].name)
        if own is None:
            if worst is not None:
                quality.update({v.name: worst for v in node.outputs})
            continue
        value, compared, db = own
        lost = None if db is None or worst is None else worst - db
        layers.append(
            Departure(
                node.name,
                node.op.name,
                value.name,
                compared,
                _round(db),
                _round(lost),
                max(_noise(db) - _noise(worst), 0.0),
                _macs(node, value),
            )
        )
        if db is not None:
            quality[node.outputs[0].name] = db
        elif worst is not None:
            quality[node.outputs[0].name] = worst
    outputs = {v.name: _round(quality.get(v.name)) for v in graph.outputs}
    return layers, outputs


def _macs(node: Node, real: Value) -> int:
    """Multiplications of the one or the other: sums of codes become numbers elsewhere."""
    return max(node_macs(n) for n in (node, real.producer) if n is not None)


def _noise(db: float | None) -> float:
    return 0.0 if db is None else float(10 ** (-db / 10))


def _round(db: float | None) -> float | None:
    return None if db is None or not np.isfinite(db) else round(db, 2)
