"""A workload of the kernel templates as one hashable, picklable kernel."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.errors import BackendError
from ...ir.types import Array
from .kernels import ConvWorkload, Template, select, start
from .program import Emitted


@dataclass(frozen=True)
class TemplateKernel:
    """What ``select`` picks for ``workload`` on a cpu with ``features``, with its ``knobs``."""

    workload: ConvWorkload
    features: frozenset[str]
    knobs: Any

    @staticmethod
    def choose(workload: ConvWorkload, features: frozenset[str]) -> "TemplateKernel":
        """The template with its default knobs."""
        knobs = select(workload, features).default_knobs(workload)
        return TemplateKernel(workload, features, knobs)

    @property
    def template(self) -> Template:
        """The template itself, which holds functions and cannot be sent to a process."""
        return select(self.workload, self.features)

    @property
    def label(self) -> str:
        """The template's name."""
        return type(self.template).__name__.lower()

    def pack(self, weights: Array) -> Array:
        """OIHW weights as the kernel reads them; ``BackendError`` for what it cannot hold."""
        try:
            return np.asarray(self.template.pack(weights, self.workload, self.knobs))
        except ValueError as error:
            raise BackendError(f"{self.label}: {error}") from error

    def bias(self, bias: Array, weights: Array) -> Array:
        """What the accumulators start at."""
        return np.asarray(start(self.template, bias, weights))

    def emit(self, name: str) -> Emitted:
        """The kernel as TIR."""
        function = self.template.prim_func(self.workload, self.knobs, name)
        return Emitted(function, self.template.extent(self.workload, self.knobs))
