"""Which kernels a compilation takes: from a database where it knows better, else by estimate."""

from collections import Counter
from dataclasses import dataclass, field

from ....targets.target import Target
from ..kernels import ConvWorkload
from ..template import TemplateKernel, by_estimate
from .records import Database, Setting, describe


@dataclass
class Choices:
    """A ``Choose`` that replays a database, without searching.

    ``measurer``: whose times count where several measured.  ``asked``: by whose times the kernel of
    each workload was chosen, empty where by estimate: that of one of its layers where their visits
    leave them other kernels, the ``measurer``'s if it was one.
    """

    target: Target
    database: Database
    measurer: str = ""
    asked: dict[str, str] = field(default_factory=dict)

    def __call__(self, workload: ConvWorkload, features: frozenset[str]) -> TemplateKernel:
        """The kernel of a workload."""
        setting = Setting.of(self.target)
        found, judge = self.database.best(setting, workload, self.measurer)
        text = describe(workload)
        if not self.asked.get(text) or (judge and judge == self.measurer):
            self.asked[text] = judge
        return by_estimate(workload, features) if found is None else found

    @property
    def judges(self) -> dict[str, int]:
        """How many workloads each one decided, the ``measurer`` first, then by name."""
        counts = Counter(judge for judge in self.asked.values() if judge)
        names = sorted(counts, key=lambda name: (name != self.measurer, name))
        return {name: counts[name] for name in names}
