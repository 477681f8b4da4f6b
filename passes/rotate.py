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
    ``online``: what layers read is also turned at run time, behind selective ``scans``, or for
    ``all`` products with constant matrices that weights cannot turn; or for ``none``.
    Raises ``DataError`` where they have none.
    """

    name: ClassVar[str] = "rotate"
    kind: ClassVar[Kind] = Kind.EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    establishes: ClassVar[frozenset[str]] = frozenset({"rotated"})

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
        """Plain norms first, then all sites at once."""
        work = graph.copy()
        untie(work)
        folded = fold_norms(work)
        baked = bake_means(folded.graph, folded.kept)
        for name, why in folded.kept.items():
            log.info("%s: the norm %%%s holds its channels fast: %s", self.name, name, why)
        sites = Sites(folded.graph, Action.ROTATE)
        found = [(site, r) for site in sites.free() if (r := reads(folded.graph, sites, site))]
        turns = self._turns(folded.graph, context, found)
        turned = rotate(sites, [(site, t.matrix) for (site, _), t in turns])
        read = [r.value for (_, reads_), _ in turns for r in reads_]
        mixed = layers_to_mix(turned, self.online, read)
        if mixed:
            turned = mix_layers(turned, context, mixed)
        if turns or mixed:
            for (site, _), _ in turns:
                context.rotated |= {(p.value.name, p.axis) for p in site.weights}
            tie(turned)
            turned.properties |= graph.properties
            graph.become(turned)
        return {
            "rewrites": len(turns),
            "channels": sum(len(site) for (site, _), _ in turns),
            "norms": folded.count,
            "means": baked,
            "held": len(folded.kept),
            "online": len(mixed),
            "without_hadamard": sum(not t.even for _, t in turns),
        }

    def _turns(
        self, graph: Graph, context: Context, found: list[tuple[Site, list[Read]]]
    ) -> list[tuple[tuple[Site, list[Read]], Turn]]:
        """A matrix per site."""
        spread: list[Array] | list[None] = [None] * len(found)
        if self.method != "hadamard" and found:
            spread = covariances(graph, context, [r for _, r in found])
        rng = np.random.default_rng(context.seed)
        made = []
        for one, covariance in zip(found, spread, strict=True):
            made.append((one, turn(self.method, len(one[0]), covariance, rng)))
            if not made[-1][1].even:
                log.info(
                    "%s: no Hadamard matrix of order %d for %s: any orthogonal one",
                    self.name, len(one[0]), one[0].name,
                )  # fmt: skip
        return made
