"""Activations that exporters take apart, and the expression each is recovered from."""

import math
from collections.abc import Callable

from ...ir.graph import Value
from ...ir.ops import OPS
from ...ir.rewrite import Match, Rule, const, p

Build = Callable[[Match], Value | None]


def _unary(name: str, **attributes: str) -> Build:
    return lambda m: m.make(OPS[name](**attributes), m["x"])


def _clip(m: Match, low: float | None, high: float | None) -> Value:
    if low == 0 and high is None:
        return m.make(OPS["Relu"](), m["x"])
    return m.make(OPS["Clip"](min=low, max=high), m["x"])  # type: ignore[call-arg]


def _max(m: Match) -> Value | None:
    low = m.scalar("c")
    return None if low is None or not m["x"].type.is_float else _clip(m, low, None)


def _min(m: Match) -> Value | None:
    high = m.scalar("c")
    return None if high is None or not m["x"].type.is_float else _clip(m, None, high)


def _nested(m: Match) -> Value | None:
    inner, outer = m.nodes["inner"].op, m.root.op
    lows = [a for a in (inner.min, outer.min) if a is not None]  # type: ignore[attr-defined]
    highs = [a for a in (inner.max, outer.max) if a is not None]  # type: ignore[attr-defined]
    low, high = max(lows, default=None), min(highs, default=None)
    if low is not None and high is not None and low > high:
        return None
    return _clip(m, low, high)


def _six(build: Build) -> Build:
    """Only where the Clip inside is between 0 and 6."""

    def check(m: Match) -> Value | None:
        op = m.nodes["six"].op
        low, high = op.min, op.max  # type: ignore[attr-defined]
        return build(m) if low == 0 and high == 6 else None

    return check


def _hard_swish(m: Match) -> Value | None:
    op = m.nodes["gate"].op
    usual = math.isclose(op.alpha, 1 / 6, rel_tol=1e-4) and op.beta == 0.5  # type: ignore[attr-defined]
    return m.make(OPS["HardSwish"](), m["x"]) if usual else None


def _softplus(m: Match) -> Value | None:
    """A threshold from which on softplus is its operand, to the last bit of float32."""
    c = m.scalar("c")
    return None if c is None or c < 20 else m.make(OPS["Softplus"](), m["x"])


_SIX = p.Clip(p.Add(p.x, 3.0)).named("six")
_ERF = p.Add(p.Erf(p.Div(p.x, math.sqrt(2))), 1.0)
_ERF_MUL = p.Add(p.Erf(p.Mul(p.x, math.sqrt(0.5))), 1.0)
_CUBE = p.Mul(p.Add(p.x, p.Mul(p.Pow(p.x, 3.0), 0.044715)), math.sqrt(2 / math.pi))
_TANH = p.Add(p.Tanh(_CUBE), 1.0)
_GELU = _unary("Gelu")
_GELU_TANH = _unary("Gelu", approximate="tanh")

ACTIVATIONS = [
    Rule("max-clip", p.Max(p.x, const("c")), _max),
    Rule("min-clip", p.Min(p.x, const("c")), _min),
    Rule("clip-clip", p.Clip(p.Clip(p.x).named("inner")), _nested),
    Rule("relu-relu", p.Relu(p.Relu(p.x)), _unary("Relu")),
    Rule("softplus", p.Where(p.Greater(p.x, const("c")), p.x, p.Softplus(p.x)), _softplus),
    Rule("silu", p.Mul(p.x, p.Sigmoid(p.x)), _unary("Silu")),
    Rule("hard-swish", p.Mul(p.x, p.HardSigmoid(p.x).named("gate")), _hard_swish),
    Rule("hard-swish-div", p.Mul(p.x, p.Div(_SIX, 6.0)), _six(_unary("HardSwish"))),
    Rule("hard-swish-mul", p.Mul(p.x, p.Mul(_SIX, 1 / 6)), _six(_unary("HardSwish"))),
    Rule("hard-swish-last", p.Div(p.Mul(p.x, _SIX), 6.0), _six(_unary("HardSwish"))),
    Rule("hard-swish-scaled", p.Mul(p.Mul(p.x, _SIX), 1 / 6), _six(_unary("HardSwish"))),
    Rule("gelu", p.Mul(p.Mul(p.x, _ERF), 0.5), _GELU),
    Rule("gelu-half", p.Mul(p.Mul(p.x, 0.5), _ERF), _GELU),
    Rule("gelu-erf", p.Mul(p.x, p.Mul(_ERF, 0.5)), _GELU),
    Rule("gelu-mul", p.Mul(p.Mul(p.x, _ERF_MUL), 0.5), _GELU),
    Rule("gelu-mul-half", p.Mul(p.Mul(p.x, 0.5), _ERF_MUL), _GELU),
    Rule("gelu-mul-erf", p.Mul(p.x, p.Mul(_ERF_MUL, 0.5)), _GELU),
    Rule("gelu-tanh", p.Mul(p.Mul(p.x, 0.5), _TANH), _GELU_TANH),
    Rule("gelu-tanh-last", p.Mul(p.Mul(p.x, _TANH), 0.5), _GELU_TANH),
]
