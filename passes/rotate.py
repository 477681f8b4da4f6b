"""``rotate``: mix channels by orthogonal matrices, so that no channel is an outlier.

What a layer writes is turned, what the next ones read is turned back; residual sums, RMS norms and
products of matrices do not see it.  ::

    %y = MatMul(RMSNormalization(Add(MatMul(%x, %w), %r), %gamma), %v)      %r = Gather(%t, %tokens)
    ->
    %y = MatMul(RMSNormalization(Add(MatMul(%x, %w M^T), %r), 1), M diag(gamma) %v)
                                                                    %r = Gather(%t M^T, %tokens)

First weights and biases of norms move into the layers behind them, and LayerNormalizations become
RMSNormalizations by taking the mean off the layers that write their stream.  Then every site of
`Sites` for ``ROTATE`` turns: residual streams, values of heads with the projection behind them,
bottlenecks between linear layers.

Does not handle: channels behind a nonlinear function, heads that a rotary embedding turns, axes of
several factors.  Weights on a grid leave it.

Sources: Ashkboos et al., "QuaRot", 2024; Xu et al., "MambaQuant", 2025, section 4.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..ir.actions import rotate
from ..ir.coupling import Action, Site, Sites
from ..ir.errors import PreconditionError, nearest
from ..ir.graph import Graph
from ..ir.types import Array
from ..ir.untie import tie, untie
from .base import Kind, Pass, Statistics
from .context import Context
from .rotation.matrices import METHODS, Turn, turn
from .rotation.means import bake_means
from .rotation.norms import fold_norms
from .rotation.online import CHOICES, layers_to_mix, mix_layers
from .rotation.spread import Read, covariances, reads

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rotate(Pass):
    """Turn the channels of all sites; see the module's documentation.

    ``method``: ``hadamard`` (random signs), ``klt`` or ``klt-hadamard``; the latter two look at the
    calibration data and make all channels of a site uncorrelated, or of equal variance.
    ``online``: what layers read is also turned at run time, behind selective ``scans`` (whose
    channels are scaled by the data, too), or for ``all`` products with constant matrices that
    weights cannot turn; or for ``none``.  Raises ``DataError`` where data are needed and missing.
    """

    name: ClassVar[str] = "rotate"
    kind: ClassVar[Kind] = Kind.EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    method: str = "klt-hadamard"
    online: str = "none"

    def __post_init__(self) -> None:
        """Refuse what is no choice."""
        for what, given, known in (
            ("method", self.method, METHODS),
            ("choice online", self.online, CHOICES),
        ):
            if given not in known:
                raise PreconditionError(
                    f"{self.name} has no {what} {given!r}; {nearest(given, known)}"
                )

    def draft(self) -> Pass | None:
        """Only what is done at run time takes time."""
        return None if self.online == "none" else replace(self, method="hadamard")

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Plain norms first, then all sites at once, then what is turned at run time."""
        work = graph.copy()
        untie(work)
        folded = fold_norms(work)
        baked = bake_means(folded.graph, folded.kept)
        for name, why in folded.kept.items():
            log.info("%s: the norm %%%s holds its channels fast: %s", self.name, name, why)
        sites = Sites(folded.graph, Action.ROTATE)
        turned = self._turned(folded.graph, sites, context)
        out = rotate(sites, [(one.site, one.turn.matrix) for one in turned])
        read = [r.value for one in turned for r in one.reads]
        mixed = layers_to_mix(out, self.online, read)
        if mixed:
            out = mix_layers(out, context, mixed)
        if turned or mixed:
            weights = [place for one in turned for place in one.site.weights]
            context.rotated |= {(p.value.name, p.axis) for p in weights}
            tie(out)
            out.properties |= graph.properties
            graph.become(out)
        return {
            "rewrites": len(turned) + len(mixed),
            "channels": sum(len(one.site) for one in turned),
            "norms": folded.count if turned or mixed else 0,
            "means": baked if turned or mixed else 0,
            "held": len(folded.kept),
            "online": len(mixed),
            "without_hadamard": sum(not one.turn.even for one in turned),
        }

    def _turned(self, graph: Graph, sites: Sites, context: Context) -> list[_Turned]:
        """A matrix for every site that layers read."""
        found = [(site, r) for site in sites.free() if (r := reads(graph, sites, site))]
        spread: list[Array] | list[None] = [None] * len(found)
        if self.method != "hadamard" and found:
            spread = covariances(graph, context, [r for _, r in found])
        rng = np.random.default_rng(context.seed)
        made = []
        for (site, read), covariance in zip(found, spread, strict=True):
            made.append(_Turned(site, read, turn(self.method, len(site), covariance, rng)))
            if not made[-1].turn.even:
                why = "no Hadamard matrix of order"
                log.info("%s: %s %d for %s", self.name, why, len(site), site.name)
        return made


@dataclass(frozen=True)
class _Turned:
    """A site, what layers read of it, and its matrix."""

    site: Site
    reads: list[Read]
    turn: Turn
