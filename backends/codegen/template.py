"""A workload of the kernel templates as one hashable, picklable kernel."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...ir.errors import BackendError
from ...ir.types import Array
from .kernels import (
    SCHEDULED,
    ConvWorkload,
    Knobs,
    Template,
    Trace,
    default_knobs,
    start,
    template_of,
    templates,
)
from .program import Emitted, Kernel, Program


@dataclass(frozen=True)
class TemplateKernel:
    """``workload`` by the template called ``name`` for a cpu with ``features``, with its knobs."""

    workload: ConvWorkload
    features: frozenset[str]
    name: str
    knobs: Knobs

    @property
    def template(self) -> Template:
        """The template itself, which holds functions and cannot be sent to a process."""
        return template_of(self.workload, self.features, self.name)

    @property
    def label(self) -> str:
        """The template's name, as part of a symbol."""
        return self.name.replace("-", "_")

    @property
    def fits(self) -> bool:
        """Whether there is such a kernel: a schedule from elsewhere may not suit the workload."""
        if self.name != SCHEDULED:
            return True
        try:
            return self.template.extent(self.workload, self.knobs) > 0
        except ValueError:
            return False

    @property
    def cost(self) -> float:
        """Estimated cycles."""
        return self.template.cost(self.workload, self.knobs)

    def pack(self, weights: Array) -> Array:
        """OIHW weights as the kernel reads them; ``BackendError`` for what it cannot hold."""
        try:
            return np.asarray(self.template.pack(weights, self.workload, self.knobs))
        except ValueError as error:
            raise BackendError(f"{self.label}: {error}") from error

    def bias(self, bias: Array, weights: Array) -> Array:
        """What the accumulators start at."""
        return np.asarray(start(self.template, bias, weights))

    @property
    def code(self) -> "TemplateKernel":
        """One of all kernels with this code: ``visits`` are a matter of the weights."""
        return replace(self, workload=replace(self.workload, visits=()))

    def emit(self, name: str) -> Emitted:
        """The kernel as TIR."""
        function = self.template.prim_func(self.workload, self.knobs, name)
        return Emitted(function, self.template.extent(self.workload, self.knobs))


def scheduled(workload: ConvWorkload, features: frozenset[str], trace: str) -> TemplateKernel:
    """The kernel that a schedule makes of the naive computation of an integer workload."""
    return TemplateKernel(workload, features, SCHEDULED, Trace(trace))


Choose = Callable[[ConvWorkload, frozenset[str]], TemplateKernel]
"""Which kernel serves a workload on a cpu with such features."""


def by_estimate(workload: ConvWorkload, features: frozenset[str]) -> TemplateKernel:
    """The best guess without measuring: the first template with its cheapest knobs."""
    name, template = next(iter(templates(workload, features).items()))
    return TemplateKernel(workload, features, name, default_knobs(template, workload))


def candidates(workload: ConvWorkload, features: frozenset[str]) -> list[TemplateKernel]:
    """All kernels worth measuring, ``by_estimate`` first, then by estimated cycles."""
    found = [
        TemplateKernel(workload, features, name, knobs)
        for name, template in templates(workload, features).items()
        for knobs in template.knob_space(workload)
    ]
    first = by_estimate(workload, features)
    return sorted(found, key=lambda kernel: (kernel != first, kernel.cost))


def shared(program: Program) -> Program:
    """The same program with one kernel for all that have the same code."""
    first: dict[Kernel, str] = {}
    names = {
        symbol: first.setdefault(k.code if isinstance(k, TemplateKernel) else k, symbol)
        for symbol, k in program.kernels.items()
    }
    calls, once = (
        [replace(call, symbol=names[call.symbol]) for call in calls]
        for calls in (program.calls, program.once)
    )
    kernels = {symbol: program.kernels[symbol] for symbol in first.values()}
    return replace(program, kernels=kernels, calls=calls, once=once)
