"""The amounts of least measured error among some candidates."""

from __future__ import annotations

from collections.abc import Iterable

from .amounts import Amounts
from .site import Site


def best_of(site: Site, candidates: Iterable[Amounts]) -> Amounts:
    """The candidate of least error on the first half of the samples; the first of equals."""
    return min(candidates, key=site.error)
