"""Which solver serves which site best: by the error that is measured on calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .amounts import Amounts
from .network import Network
from .site import Site
from .solvers import SOLVERS

BETTER = 0.95
"""Share of the error so far that another solver's must stay below, on either half of the samples:
what differs less, or on one half only, is noise."""

STILL = 1e-3
"""Sweeps end when no factor changes by more than this."""

NONE = "none"


@dataclass(frozen=True)
class Chosen:
    """A site, the solver that was taken, and the readers' error (None: not measured)."""

    site: Site
    solver: str
    before: float | None = None
    after: float | None = None


def solve_all(network: Network, names: Sequence[str]) -> list[Chosen]:
    """Amounts for all sites, into ``network.state``; the best of several solvers for each.

    The first one solves all sites; where there is data, others take its place site by site, but
    not behind a recurrence, whose rare extremes a few positions do not show.
    """
    sites = network.sites()
    done = _swept(network, sites, names[0])
    if len(names) == 1 or any(r.seen is None for r in network.readers):
        for name in names[1:]:
            rest = [s for s in sites if s.name not in done]
            done |= _swept(network, rest, name)
        return [_judged(network, s, done.get(s.name, NONE)) for s in sites]
    return [
        _judged(network, s, done.get(s.name, NONE))
        if s.tails
        else _contest(network, s, done.get(s.name, NONE), names[1:])
        for s in sites
    ]


def _swept(network: Network, sites: Sequence[Site], name: str) -> dict[str, str]:
    """Let one solver answer everywhere, again where answers depend on each other."""
    solver, done = SOLVERS[name], {}
    for _ in range(solver.sweeps):
        before = network.state
        for site in sites:
            found = solver.solve(network.at(site))
            if found is not None:
                found = _level(found) if solver.needs_data and site.mixed else found
                network.state = network.state.put(site.channels, found)
                done[site.name] = name
        if np.allclose(before.scale, network.state.scale, rtol=STILL, atol=0):
            break
    return done


def _contest(network: Network, site: Site, holder: str, others: Sequence[str]) -> Chosen:
    """Replace what a site has by what another solver finds, if that errs less on both halves."""
    site = network.at(site)
    none = Amounts.none(len(site.channels))
    held = _errors(site, site.amounts)
    name, best, least = holder, site.amounts, BETTER
    for other in (NONE, *others):
        found = none if other == NONE else SOLVERS[other].solve(site)
        if found is None:
            continue
        found = _level(found) if site.mixed else found
        worst = max(e / h for e, h in zip(_errors(site, found), held, strict=True))
        if worst < least or (other == NONE and worst <= 1):
            name, best, least = other, found, min(worst, least)
    network.state = network.state.put(site.channels, best)
    return Chosen(site, name, site.error(none, 1), site.error(best, 1))


def _level(amounts: Amounts) -> Amounts:
    """The same, but for whole octaves that bring the factors about one.

    What a layer makes may share a tensor, and so a scale, with channels of other sites (the gate
    beside it, say): only factors between the channels of a site are any solver's business.
    """
    octaves = np.rint(np.log2(amounts.scale).mean())
    return Amounts(amounts.scale * 2.0**-octaves, amounts.shift)


def _errors(site: Site, amounts: Amounts) -> list[float]:
    return [max(site.error(amounts, half), 1e-30) for half in (0, 1)]


def _judged(network: Network, site: Site, name: str) -> Chosen:
    site = network.at(site)
    if any(r.seen is None for r in site.readers):
        return Chosen(site, name)
    clean = replace(site, state=network.state)
    none = Amounts.none(len(site.channels))
    return Chosen(clean, name, site.error(none, half=1), site.error(site.amounts, half=1))
