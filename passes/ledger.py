"""The ledger: what every pass did, took and cost.  Row 0 is the network as it was loaded."""

from dataclasses import dataclass, field

from ..ir.graph import Graph
from .base import Kind, Statistics
from .measure import macs, parameters, weight_bytes


@dataclass
class Row:
    """One pass: time, rewrites, size of the graph after it, error of its outputs so far.

    ``sqnr_db`` compares the graph's outputs with those of the loaded network (None: not measured or
    exactly equal); ``metric`` is the evaluation metric, if there is one.
    """

    name: str
    kind: Kind
    seconds: float
    rewrites: int
    parameters: int
    macs: int
    bytes: int
    sqnr_db: float | None = None
    metric: float | None = None
    statistics: Statistics = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The row under the keys of the ``--json`` report."""
        return {
            "pass": self.name,
            "kind": self.kind.value,
            "seconds": round(self.seconds, 3),
            "rewrites": self.rewrites,
            "parameters": self.parameters,
            "macs": self.macs,
            "bytes": self.bytes,
            "sqnr_db": None if self.sqnr_db is None else round(self.sqnr_db, 2),
            "metric": self.metric,
            "statistics": self.statistics,
        }


@dataclass
class Ledger:
    """Rows in the order of the passes, and facts about single layers (by name) for the report."""

    rows: list[Row] = field(default_factory=list)
    layers: dict[str, dict[str, object]] = field(default_factory=dict)

    def add(
        self, name: str, kind: Kind, seconds: float, statistics: Statistics, graph: Graph
    ) -> Row:
        """Append the row of a pass that has just changed ``graph``."""
        row = Row(
            name,
            kind,
            seconds,
            int(statistics.get("rewrites", 0)),
            parameters(graph),
            macs(graph),
            weight_bytes(graph),
            statistics={k: v for k, v in statistics.items() if k != "rewrites"},
        )
        self.rows.append(row)
        return row
