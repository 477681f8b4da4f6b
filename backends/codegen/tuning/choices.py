"""Which kernels a compilation takes: from a database where it knows better, else by estimate."""

import logging
from dataclasses import dataclass, field

from ....targets.target import Target
from ..kernels import ConvWorkload
from ..template import TemplateKernel, by_estimate
from .records import Database, Setting, describe

log = logging.getLogger(__name__)


@dataclass
class Choices:
    """A ``Choose`` that replays a database, without searching.

    ``measurer``: whose times count where several measured.  ``asked``, ``recorded``: workloads that
    were asked for and found; ``judges``: by whose times.
    """

    target: Target
    database: Database
    measurer: str = ""
    asked: set[str] = field(default_factory=set)
    recorded: set[str] = field(default_factory=set)
    judges: set[str] = field(default_factory=set)

    def __call__(self, workload: ConvWorkload, features: frozenset[str]) -> TemplateKernel:
        """The kernel of a workload."""
        self.asked.add(describe(workload))
        setting = Setting.of(self.target)
        found = self.database.best(setting, workload, self.measurer)
        if found is not None and not found.fits:
            log.warning("the schedule recorded for %s does not fit it", describe(workload))
            found = None
        if found is None:
            return by_estimate(workload, features)
        self.recorded.add(describe(workload))
        self.judges.add(self.database.judge(setting, workload, self.measurer))
        return found
