"""Shape ops that do nothing, or that two of make one of."""

from ...ir.graph import Value
from ...ir.ops import OPS
from ...ir.rewrite import Match, Rule, p


def _same_type(m: Match) -> Value | None:
    return m["x"] if m["x"].type == m.root.output.type else None


def _plain(m: Match) -> Value | None:
    """An op that keeps the shape and has one operand moved nothing."""
    return _same_type(m) if len(m.root.operands) == 1 else None


def _no_slice(m: Match) -> Value | None:
    steps = m.root.op.steps  # type: ignore[attr-defined]
    return _plain(m) if steps is None or all(s > 0 for s in steps) else None


def _no_pad(m: Match) -> Value | None:
    pads = m.root.op.pads  # type: ignore[attr-defined]
    return _plain(m) if pads is not None and not any(pads) else None


def _no_transpose(m: Match) -> Value | None:
    perm = m.root.op.perm  # type: ignore[attr-defined]
    return m["x"] if perm is not None and tuple(perm) == tuple(range(len(perm))) else None


def _transposes(m: Match) -> Value | None:
    rank = m["x"].type.rank
    inner = m.nodes["inner"].op.perm or tuple(reversed(range(rank)))  # type: ignore[attr-defined]
    outer = m.root.op.perm or tuple(reversed(range(rank)))  # type: ignore[attr-defined]
    return m.make(OPS["Transpose"](perm=tuple(inner[i] for i in outer)), m["x"])  # type: ignore[call-arg]


def _reshapes(m: Match) -> Value | None:
    if any(not isinstance(d, int) for d in m.root.output.type.shape):
        return None
    return m.make(OPS["Reshape"](shape=m.root.output.shape), m["x"])  # type: ignore[call-arg]


def _one_concat(m: Match) -> Value | None:
    return m["x"] if len(m.root.operands) == 1 else None


def _no_pool(m: Match) -> Value | None:
    one = all(k == 1 for k in m.root.op.kernel) and len(m.root.outputs) == 1  # type: ignore[attr-defined]
    return _same_type(m) if one else None


SHAPES = [
    Rule("identity", p.Identity(p.x), _same_type),
    Rule("cast", p.Cast(p.x), _same_type),
    Rule("reshape", p.Reshape(p.x), _plain),
    Rule("flatten", p.Flatten(p.x), _plain),
    Rule("slice", p.Slice(p.x), _no_slice),
    Rule("pad", p.Pad(p.x), _no_pad),
    Rule("expand", p.Expand(p.x), _plain),
    Rule("tile", p.Tile(p.x), _plain),
    Rule("transpose", p.Transpose(p.x), _no_transpose),
    Rule("concat", p.Concat(p.x), _one_concat),
    Rule("max-pool", p.MaxPool(p.x), _no_pool),
    Rule("transposes", p.Transpose(p.Transpose(p.x).named("inner")), _transposes),
    Rule("reshapes", p.Reshape(p.Reshape(p.x)), _reshapes),
    Rule("unsqueeze-squeeze", p.Squeeze(p.Unsqueeze(p.x)), _same_type),
    Rule("flatten-reshape", p.Reshape(p.Flatten(p.x)), _reshapes),
]
