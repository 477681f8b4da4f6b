"""``canonicalize``: one form for everything that has many, so that later passes see few cases.

Folds constants, removes what does nothing, merges neighbours (padding into convolutions, constants
into biases), unrolls short recurrent layers and makes loops of long ones, writes transposed
convolutions as convolutions, and recovers the activations, normalisations and selective scans that
exporters take apart (rules, one line each, in ``patterns``).  ::

    %s = Sigmoid(%x)   %y = Mul(%x, %s)      ->      %y = Silu(%x)

Does not fold float expressions of constants that others read too: tied weights stay tied.
"""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph, Node
from ..ir.rewrite import rewrite
from .base import Kind, Pass, Statistics
from .context import Context
from .patterns.activation import ACTIVATIONS
from .patterns.linear import LINEAR
from .patterns.norm import NORMS
from .patterns.scan import SCANS
from .patterns.shape import SHAPES
from .patterns.transposed import TRANSPOSED
from .recurrent.loop import loop_recurrent
from .recurrent.unroll import unroll_recurrent

SMALL = 1024
"""Float results of at most this size are folded even where a constant has other readers."""


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Constant folding, dead code, identities, pattern recovery; see the module's documentation."""

    name: ClassVar[str] = "canonicalize"
    kind: ClassVar[Kind] = Kind.EXACT
    establishes: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Rewrite until nothing changes."""
        counts: Counter[str] = Counter()
        while True:
            counts["constant"] += fold_constants(graph)
            counts["unrolled"] += unroll_recurrent(graph)
            counts["looped"] += loop_recurrent(graph)
            # Norms first: a mean inside one is no pooling.
            fired = rewrite(graph, [*SHAPES, *NORMS], self.name)
            fired += rewrite(graph, [*LINEAR, *TRANSPOSED, *ACTIVATIONS], self.name)
            # Scans last: their parts are single ops by now.
            fired += rewrite(graph, SCANS, self.name)
            counts += fired
            if not fired:
                break
        counts["dead"] += graph.prune()
        counts = +counts
        return {"rewrites": sum(counts.values()), **counts}


def fold_constants(graph: Graph) -> int:
    """Replace nodes whose operands are all constant by their values; how many."""
    folded = 0
    for node in list(graph.nodes):
        if node.operands and all(v.is_constant for v in node.operands) and _may_fold(node):
            results = node.op.eval([None if v is None else v.data for v in node.inputs])
            for value, array in zip(node.outputs, results, strict=True):
                graph.replace(value, graph.constant(np.asarray(array), value.name))
            graph.remove(node)
            folded += 1
    return folded


def _may_fold(node: Node) -> bool:
    if node.op.name in ("Quantize", "Dequantize", "If", "Loop", "Scan"):
        return False
    if any(v.data is None for v in node.operands):
        return False
    own = all(len(v.uses) == 1 for v in node.operands)
    real = any(v.type.is_float for v in node.outputs)
    return own or not real or sum(v.type.size for v in node.outputs) <= SMALL
