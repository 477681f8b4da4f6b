"""What is tried for a workload: the templates' own kernels, or more."""

from collections.abc import Mapping
from typing import Protocol

from ..pool import Pool
from ..template import TemplateKernel, candidates
from .records import Record

Results = Mapping[TemplateKernel, Record]
"""What is known of a workload's kernels."""


class Searcher(Protocol):
    """Proposes kernels of a workload; measuring and keeping records is none of its business."""

    def first(self, kernel: TemplateKernel, known: Results) -> list[TemplateKernel]:
        """What to try at once for the workload of ``kernel``, the one by estimate."""

    def more(self, kernel: TemplateKernel, known: Results, pool: Pool) -> list[TemplateKernel]:
        """What to try once that is measured; empty at the end.  ``pool``: for what may die."""

    def steps(self, waiting: list[TemplateKernel], known: Results) -> int:
        """How many kernels are to be tried in all."""


class Templates:
    """All kernels that the templates have, in the order of their estimates."""

    def first(self, kernel: TemplateKernel, known: Results) -> list[TemplateKernel]:
        """Those that are not known."""
        every = candidates(kernel.workload, kernel.features)
        return [k for k in every if k not in known]

    def more(self, kernel: TemplateKernel, known: Results, pool: Pool) -> list[TemplateKernel]:
        """Nothing: they were all there at once."""
        return []

    def steps(self, waiting: list[TemplateKernel], known: Results) -> int:
        """Those that wait."""
        return len(waiting)
