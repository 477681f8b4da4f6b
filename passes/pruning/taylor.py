"""How far the outputs move, to first order, when a channel goes: by gradients of its weights.

With random signs for the elements of the outputs, the square of a gradient's product with the
weights that go is on average the square of what their removal changes in all outputs, to first
order.  No labels are needed.

Sources: Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019, section 3.1
(the square of the summed products); Hutchinson, "A stochastic estimator of the trace of the
influence matrix", 1989 (random signs).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.coupling import ChannelGroup, Coupling
from ...ir.errors import PreconditionError
from ...ir.types import Array
from ..context import Context, Feed
from .distortion import judged
from .importance import AGGREGATES, along, matrices


def taylor(
    coupling: Coupling,
    groups: Sequence[ChannelGroup],
    context: Context,
    feeds: Sequence[Feed],
    aggregate: str,
) -> list[Array]:
    """float64 ``[channels]`` per group, over the samples ``feeds``.

    ``PreconditionError`` where nobody differentiates.
    """
    if context.gradients is None:
        raise PreconditionError(
            "criterion 'taylor' needs gradients: qc.Context(gradients=qc.TorchGradients(), ...)"
        )
    run = context.gradients.open(coupling.graph, judged(coupling.graph))
    places = [matrices(g) for g in groups]
    rows = [np.zeros((len(own), len(g))) for own, g in zip(places, groups, strict=True)]
    for feed in feeds:
        found = run(feed)
        for group, own, total in zip(groups, places, rows, strict=True):
            for row, place in enumerate(own):
                if (gradient := found.get(place.value.name)) is not None:
                    product = np.asarray(place.value.data, np.float64) * gradient
                    total[row] += np.square(along(coupling, group, place, product))
    means = [total / len(feeds) for total in rows]
    return [AGGREGATES[aggregate](m) if len(m) else np.ones(m.shape[1]) for m in means]
