"""Which solver serves which site best: by the error that is measured on calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .amounts import Amounts
from .network import Network
from .site import Site
from .solvers import SOLVERS

BETTER = 0.9
"""Share of the error so far that another solver's must stay below: less is noise."""

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

    The first one solves all sites; where there is data, others take its place site by site where
    the second half of the samples says so.
    """
    sites = network.sites()
    done = _swept(network, sites, names[0])
    if len(names) == 1 or any(r.seen is None for r in network.readers):
        for name in names[1:]:
            rest = [s for s in sites if s.name not in done]
            done |= _swept(network, rest, name)
        return [_judged(network, s, done.get(s.name, NONE)) for s in sites]
    return [_contest(network, s, done.get(s.name, NONE), names[1:]) for s in sites]


def _swept(network: Network, sites: Sequence[Site], name: str) -> dict[str, str]:
    """Let one solver answer everywhere, again where answers depend on each other."""
    solver, done = SOLVERS[name], {}
    for _ in range(solver.sweeps):
        before = network.state
        for site in sites:
            found = solver.solve(network.at(site))
            if found is not None:
                network.state = network.state.put(site.channels, found)
                done[site.name] = name
        if np.allclose(before.scale, network.state.scale, rtol=STILL, atol=0):
            break
    return done


def _contest(network: Network, site: Site, holder: str, others: Sequence[str]) -> Chosen:
    """Replace what a site has by what another solver finds, if that errs less."""
    site = network.at(site)
    none = Amounts.none(len(site.channels))
    before = site.error(none, half=1)
    name, best, least = holder, site.amounts, site.error(site.amounts, half=1)
    if before <= least:
        name, best, least = NONE, none, before
    limit = least * BETTER
    for other in others:
        found = SOLVERS[other].solve(site)
        if found is None:
            continue
        error = site.error(found, half=1)
        if error < min(least, limit):
            name, best, least = other, found, error
    network.state = network.state.put(site.channels, best)
    return Chosen(site, name, before, least)


def _judged(network: Network, site: Site, name: str) -> Chosen:
    site = network.at(site)
    if any(r.seen is None for r in site.readers):
        return Chosen(site, name)
    clean = replace(site, state=network.state)
    none = Amounts.none(len(site.channels))
    return Chosen(clean, name, site.error(none, half=1), site.error(site.amounts, half=1))
