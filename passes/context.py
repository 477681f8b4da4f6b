"""What passes share: target, data, executor, analyses, seed, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from typing import Protocol

import numpy as np

from ..ir.errors import DataError
from ..ir.evaluate import evaluate
from ..ir.graph import Graph
from ..ir.types import Array
from .base import Pass
from .statistics.moments import Moments
from .statistics.ranges import Range

Feed = Mapping[str, Array]
Run = Callable[[Feed], dict[str, Array]]


class Executor(Protocol):
    """Runs graphs quickly; ``api`` injects one.  Without it the numpy reference runs."""

    def open(self, graph: Graph, names: Sequence[str]) -> Run:
        """A function from a feed to the values called ``names``."""


class Gradients(Protocol):
    """Differentiates graphs; ``api`` injects one."""

    def open(self, graph: Graph, names: Sequence[str]) -> Run:
        """A function from a feed to gradients by the names of constants.

        Of a sum of all elements of the values ``names``, each with a random sign, and each value
        relative to its root mean square.
        """


class Cost(Protocol):
    """What graphs cost on the target; ``api`` injects one."""

    @property
    def measured(self) -> bool:
        """Whether times are measured, not estimated."""

    @property
    def lanes(self) -> int:
        """Channels that kernels work on together: fewer of them are not faster."""

    def seconds(self, graph: Graph) -> dict[str, float] | None:
        """Time by node name; None for a graph that the target has no code for."""

    def ratio(self, graph: Graph, other: Graph) -> float:
        """What one graph takes of the time of another, both with code for the target."""

    def recall(self, key: str) -> dict[str, str] | None:
        """What ``remember`` was given for ``key``, at any time before."""

    def remember(self, key: str, decision: Mapping[str, str]) -> None:
        """Store a decision."""


@dataclass(frozen=True)
class Kept:
    """Layers that stay float: by name patterns of the user, or chosen, by name, with a reason."""

    patterns: tuple[str, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)

    def why(self, name: str) -> str:
        """Why a node stays float, else an empty string."""
        if any(fnmatchcase(name, pattern) for pattern in self.patterns):
            return "kept float by --keep-float"
        return self.chosen.get(name, "")


class Progress(Protocol):
    """Where long work reports; the command line shows it."""

    def start(self, what: str, total: int | None = None) -> None:
        """A new stage of ``total`` steps (None: unknown)."""

    def advance(self, steps: int = 1) -> None:
        """Steps done."""

    def done(self) -> None:
        """The stage is over."""


@dataclass(frozen=True)
class Widths:
    """Bits by the names of layers (their weights) and of activations; others have a default."""

    weights: Mapping[str, int] = field(default_factory=dict)
    activations: Mapping[str, int] = field(default_factory=dict)


class Accuracy(Protocol):
    """How much a network may lose; ``api`` injects one where somebody has said so."""

    @property
    def allowed(self) -> float:
        """Points that the metric may drop."""

    def drop(self, graph: Graph) -> float:
        """Points by which a float, quantized or integer graph is worse than the one loaded."""


@dataclass(frozen=True)
class Pruned:
    """A group of coupled channels, called by its first weight: how many there were and stay."""

    group: str
    channels: int
    kept: int


@dataclass(frozen=True)
class Equalized:
    """A site of channels, called by the first value that makes them, and the solver it was given.

    ``readers``: the layers that read them.  ``before`` and ``after``: their measured error over
    their variance with codes, added up; None where there was no data.
    """

    site: str
    solver: str
    channels: int
    readers: list[str]
    before: float | None
    after: float | None


@dataclass
class Context:
    """Options and services for passes.

    ``calibration`` is a re-iterable of feeds ``{input: array}``; ``evaluate`` measures a graph's
    metric; ``keep_float`` are name patterns of layers that stay float; ``samples`` feeds serve to
    measure the error of a pass; ``after`` are the passes that follow the one that runs.
    ``rotated`` are axes of weights (name, number) along which channels were mixed: what is known of
    single channels there is gone, and they are left in their order.  ``accuracy``: a budget that
    ``allocate-bits`` is to meet; ``widths``: what it has decided.  ``real``: the float network that
    ``quantize`` took.
    """

    target: object = "host"
    calibration: Iterable[Feed] | None = None
    evaluate: Callable[[Graph], float] | None = None
    executor: Executor | None = None
    gradients: Gradients | None = None
    cost: Cost | None = None
    seed: int = 0
    verify: bool = False
    progress: Progress | None = None
    keep_float: Sequence[str] = ()
    samples: int = 4
    ranges: dict[str, Range] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)
    why_float: dict[str, str] = field(default_factory=dict)
    chosen_float: dict[str, str] = field(default_factory=dict)
    pruned: list[Pruned] = field(default_factory=list)
    equalized: list[Equalized] = field(default_factory=list)
    after: Sequence[Pass] = ()
    rotated: set[tuple[str, int]] = field(default_factory=set)
    accuracy: Accuracy | None = None
    widths: Widths = field(default_factory=Widths)
    real: Graph | None = None

    @property
    def kept(self) -> Kept:
        """What stays float, whatever could be done with it."""
        return Kept(tuple(self.keep_float), self.chosen_float)

    def feeds(self, purpose: str) -> Iterator[Feed]:
        """The calibration feeds; ``DataError`` if there are none."""
        if self.calibration is None:
            raise DataError(f"{purpose} needs calibration data; give --calib DATA")
        empty = True
        for feed in self.calibration:
            empty = False
            yield feed
        if empty:
            raise DataError("the calibration set is empty")

    def probes(self, graph: Graph) -> list[Feed]:
        """A few feeds to measure errors on: calibration data, else random numbers from the seed."""
        if self.calibration is not None:
            return list(islice(self.feeds("verification"), self.samples))
        rng = np.random.default_rng(self.seed)
        return [{v.name: _noise(rng, v.type.dtype, v.shape) for v in graph.inputs}]

    def open(self, graph: Graph, names: Sequence[str]) -> Run:
        """A function that computes the values called ``names``: by the executor, else by numpy."""
        if self.executor is not None and "integer" not in graph.properties:
            return self.executor.open(graph, names)
        return lambda feed: evaluate(graph, feed, names)


def _noise(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    kind = np.dtype(dtype).kind
    if kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype)
