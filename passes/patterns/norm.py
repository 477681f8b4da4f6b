"""LayerNormalization and RMSNormalization, recovered from their arithmetic."""

from collections.abc import Callable

import numpy as np

from ...ir.graph import Value
from ...ir.ops import OPS
from ...ir.rewrite import Match, Rule, const, p

_CENTERED = p.Sub(p.x, p.ReduceMean(p.x).named("mean"))
_VARIANCE = p.ReduceMean(p.Pow(_CENTERED, 2.0)).named("variance")
_VARIANCE_MUL = p.ReduceMean(p.Mul(_CENTERED, _CENTERED)).named("variance")
_SQUARES = p.ReduceMean(p.Pow(p.x, 2.0)).named("variance")
_SQUARES_MUL = p.ReduceMean(p.Mul(p.x, p.x)).named("variance")


def _root(variance: object) -> object:
    return p.Sqrt(p.Add(variance, const("epsilon")))


def _axis(m: Match) -> int | None:
    """The last axis, if that is what the means run over."""
    rank = m["x"].type.rank
    for name in ("mean", "variance"):
        if name in m.nodes:
            op = m.nodes[name].op
            axes = op.axes  # type: ignore[attr-defined]
            if axes is None or len(axes) != 1 or axes[0] % rank != rank - 1 or not op.keepdims:  # type: ignore[attr-defined]
                return None
    return rank - 1


def _normal(name: str) -> Callable[[Match], Value | None]:
    def build(m: Match) -> Value | None:
        axis, epsilon = _axis(m), m.scalar("epsilon")
        if axis is None or epsilon is None or epsilon < 0:
            return None
        width = m["x"].shape[axis]
        gamma = m.graph.constant(np.ones(width, np.float32), "gamma")
        op = OPS[name](axis=-1, epsilon=float(epsilon))  # type: ignore[call-arg]
        return m.make(op, m["x"], gamma)

    return build


def _scaled(m: Match) -> Value | None:
    """A norm times a constant vector: the vector goes into gamma (and beta)."""
    norm, factor = m.nodes["norm"], m.array("c")
    width = norm.operands[1].shape
    if factor.size != width[0] or factor.shape[-1:] != width:
        return None
    rest = [
        m.graph.constant(np.asarray(v.data) * factor.reshape(-1), v.name)
        for v in norm.operands[1:]
        if v.data is not None
    ]
    return m.make(norm.op, norm.operands[0], *rest) if len(rest) + 1 == len(norm.operands) else None


def _shifted(m: Match) -> Value | None:
    """A LayerNormalization plus a constant vector: the vector is beta."""
    norm, shift = m.nodes["norm"], m.array("c")
    width = norm.operands[1].shape
    if shift.size != width[0] or shift.shape[-1:] != width:
        return None
    beta = shift.reshape(-1)
    if len(norm.operands) > 2:
        if norm.operands[2].data is None:
            return None
        beta = beta + norm.operands[2].data
    return m.make(norm.op, *norm.operands[:2], m.graph.constant(beta.astype(np.float32), "beta"))


_LAYER, _RMS = _normal("LayerNormalization"), _normal("RMSNormalization")

NORMS = [
    Rule("layer-norm", p.Div(_CENTERED, _root(_VARIANCE)), _LAYER),
    Rule("layer-norm-mul", p.Div(_CENTERED, _root(_VARIANCE_MUL)), _LAYER),
    Rule("layer-norm-reciprocal", p.Mul(_CENTERED, p.Reciprocal(_root(_VARIANCE))), _LAYER),
    Rule("rms-norm", p.Div(p.x, _root(_SQUARES)), _RMS),
    Rule("rms-norm-mul", p.Div(p.x, _root(_SQUARES_MUL)), _RMS),
    Rule("rms-norm-reciprocal", p.Mul(p.x, p.Reciprocal(_root(_SQUARES))), _RMS),
    Rule("rms-norm-reciprocal-mul", p.Mul(p.x, p.Reciprocal(_root(_SQUARES_MUL))), _RMS),
    Rule("rms-norm-inverse", p.Mul(p.x, p.Div(1.0, _root(_SQUARES))), _RMS),
    Rule("rms-norm-inverse-mul", p.Mul(p.x, p.Div(1.0, _root(_SQUARES_MUL))), _RMS),
    Rule("norm-scale", p.Mul(p.LayerNormalization(p.x).named("norm"), const("c")), _scaled),
    Rule("rms-scale", p.Mul(p.RMSNormalization(p.x).named("norm"), const("c")), _scaled),
    Rule("norm-shift", p.Add(p.LayerNormalization(p.x).named("norm"), const("c")), _shifted),
]
