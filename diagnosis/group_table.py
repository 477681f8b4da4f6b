"""The table of coupled channels: what can be done to each group, and why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..ir.coupling import Action, ChannelGroup, Coupling, Site, Sites
from ..ir.coupling.overlap import sites_of
from ..ir.graph import Graph
from ..tables import text_table

POSITIONS = "spatial position"
"""Why axes are pinned that are no channels, but windows of kernels."""

ACTIONS = ("delete", "permute", "scale", "shift", "rotate")
HEADERS = ("channels", *ACTIONS, "why not", "weights (tensor.axis/factor)")
SHOWN = 4
"""Weights named per group."""


def group_table(graph: Graph) -> str:
    """A line per group of coupled channels with weights.

    A group can be deleted and permuted as a whole.  Norms, depthwise convolutions and products with
    constants divide it into sites, each of which can be scaled, shifted or rotated by numbers of
    its own; where there are several, the table counts them.
    """
    coupling = Coupling(graph)
    fine = [
        sites_of(coupling, Sites(graph, a)) for a in (Action.SCALE, Action.SHIFT, Action.ROTATE)
    ]
    rows, shown = [], []
    for n, group in enumerate(coupling.groups):
        if len(group) > 1 and group.weights and group.pinned != POSITIONS:
            rows.append(_row(group, [sites[n] for sites in fine]))
            shown.append(group)
    order = sorted(range(len(rows)), key=lambda i: bool(shown[i].pinned))
    free = [g for g in shown if not g.pinned]
    return (
        text_table(HEADERS, [rows[i] for i in order])
        + f"\n\n{len(free)} groups of {sum(map(len, free)):,} channels can lose some"
    )


def _row(group: ChannelGroup, fine: Sequence[Sequence[Site]]) -> list[object]:
    why = [group.pinned, group.fixed, *map(_why, fine)]
    free = [sum(not s.why and len(s) > 1 for s in sites) for sites in fine]
    cells = [not group.pinned, not group.fixed, *(n if n > 1 else n == 1 for n in free)]
    shown = [f"{c} sites" if type(c) is int else c for c in cells]
    return [len(group), *shown, _reasons(cells, why), _places(group)]


def _why(sites: Sequence[Site]) -> str:
    """Why most channels must stay as they are; activations say more about it than weights."""
    count: Counter[tuple[bool, str]] = Counter()
    for site in sites:
        if site.why:
            moves = any(not p.value.is_constant for p in site.places)
            count[moves, site.why] += len(site)
    return max(count, key=lambda k: (k[0], count[k]))[1] if count else ""


def _reasons(cells: Sequence[object], why: Sequence[str]) -> str | None:
    """Reasons with the actions that they stop; without them where one reason stops all."""
    stopped: dict[str, list[str]] = {}
    for action, cell, reason in zip(ACTIONS, cells, why, strict=True):
        if cell is False:
            stopped.setdefault(reason or "no channels of its own", []).append(action)
    if list(map(len, stopped.values())) == [len(ACTIONS)]:
        return next(iter(stopped))
    return "; ".join(f"{', '.join(a)}: {reason}" for reason, a in stopped.items()) or None


def _places(group: ChannelGroup) -> str:
    named = [str(p) for p in group.weights[:SHOWN]]
    left = len(group.weights) - len(named)
    return " ".join(named) + (f" and {left} more" if left else "")
