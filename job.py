"""What somebody wants compiled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .ir.types import Array
from .loading import Source
from .measurers import measurer_here
from .passes.recipe import Recipe, default_recipe, load_recipe
from .targets import Target
from .tuning import HERE, TEMPLATES, Where

Data = str | Path | Iterable[Mapping[str, Array]]


@dataclass(frozen=True)
class Job:
    """What to compile, how, and what to judge it by; the fields are the command line's options."""

    model: Source
    target: str | Path | Target = "host"
    recipe: str | None = None
    calibration: Data | None = None
    evaluation: str | Path | None = None
    max_drop: float | None = None
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    keep_float: Sequence[str] = ()
    preprocess: str | Path | None = None
    seed: int = 0
    options: Mapping[str, object] = field(default_factory=dict)
    verify: bool = False
    database: str | Path | None = None
    tune: float | None = None
    where: Where = HERE
    searcher: str = TEMPLATES
    measured_on: str = ""
    capacity: int | None = None

    def load_recipe(self) -> Recipe:
        """The recipe with the job's options; ``PreconditionError`` for what it does not know."""
        return load_recipe(
            self.recipe or default_recipe(self.calibration is not None), self.options
        )

    def measures(self, target: Target) -> bool:
        """Whether kernels are timed: to tune them, or since a pass wants times that can be had."""
        if self.tune is not None:
            return True
        if target.arch:  # passes know no times of a GPU
            return False
        timed = any(one.timed for one in self.load_recipe().passes)
        return timed and (self.where != HERE or bool(measurer_here(target)))
