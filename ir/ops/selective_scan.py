"""The selective scan of state space networks as one op (Gu and Dao, "Mamba", 2023, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import special
from ..coupling.action import Action
from ..types import Array, TensorType
from .base import Op, Operands, given, operand, optional

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node, Value

_AXES = ("btd", "btd", "dn", "btn", "btn", "d", "btd", "d", "bdn", "d")
"""The axes of the operands: batch, time, channels, states."""

D, GATE, BIAS, START, SLOPE = 5, 6, 7, 8, 9
"""Positions of the optional operands."""


@dataclass(frozen=True)
class SelectiveScan(Op):
    """A linear recurrence per channel, whose coefficients depend on the input.  ::

        delta = softplus(delta + bias)
        h[t] = exp(delta[t] * A) * h[t - 1] + delta[t] * u[t] * B[t]
        y[t] = (sum over states of C[t] * h[t] + D * u[t]) * z[t] * sigmoid(slope * z[t])

    Operands, all of one float type: u, delta ``[batch, length, channels]``, A ``[channels,
    states]``, B, C ``[batch, length, states]``, D ``[channels]``?, z like u?, bias ``[channels]``?,
    initial state ``[batch, channels, states]``? (else zeros), slope ``[channels]``? (else ones,
    which makes silu of the gate; only where there is one).  Results: y like u, and the last state.
    ``softplus``: whether delta goes through it (the bias is added in any case).  ``reverse``: time
    runs backwards, from the last position to the first.
    """

    softplus: bool = False
    reverse: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        u = operand(ins, 0).type
        sizes = dict(zip("btd", u.shape, strict=False))
        if operand(ins, 2).type.rank == 2:
            sizes["n"] = operand(ins, 2).type.shape[1]
        if not u.is_float:
            raise ValueError(f"operand {operand(ins, 0)!r} is not of reals")
        for i, axes in enumerate(_AXES):
            wanted = TensorType(u.dtype, tuple(sizes.get(a, a) for a in axes))
            absent = i >= D and (i >= len(ins) or ins[i] is None)
            if not absent and operand(ins, i).type != wanted:
                raise ValueError(f"operand {operand(ins, i)!r} is not {wanted}")
        if len(ins) > SLOPE and ins[SLOPE] is not None and ins[GATE] is None:
            raise ValueError(f"operand {operand(ins, SLOPE)!r} is the slope of no gate")
        return [u, TensorType(u.dtype, tuple(sizes[a] for a in _AXES[START]))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        u, delta, a, b, c = (given(ins, i) for i in range(5))
        d, gate, bias, start, slope = (optional(ins, i) for i in (D, GATE, BIAS, START, SLOPE))
        if bias is not None:
            delta = delta + bias
        if self.softplus:
            delta = np.logaddexp(delta.dtype.type(0), delta)
        batch, length, channels = u.shape
        state = np.zeros((batch, channels, a.shape[1]), u.dtype) if start is None else start
        y, moved = np.empty_like(u), delta * u
        for t in range(length)[:: -1 if self.reverse else 1]:
            kept = np.exp(delta[:, t, :, None] * a) * state
            state = kept + moved[:, t, :, None] * b[:, t, None, :]
            y[:, t] = np.matmul(state, c[:, t, :, None])[..., 0]
        if d is not None:
            y = y + d * u
        if gate is not None:
            y = y * (gate * special.expit(gate if slope is None else slope * gate))
        return [y, state]

    def couple(self, relations: Relations, node: Node) -> None:
        named: list[tuple[Value, str]] = [
            (v, axes) for v, axes in zip(node.inputs, _AXES, strict=False) if v is not None
        ]
        named += zip(node.outputs, (_AXES[0], _AXES[START]), strict=True)
        first = {"b": (0, 0), "t": (0, 1), "d": (0, 2), "n": (2, 1)}
        for value, axes in named:
            for k, name in enumerate(axes):
                source, axis = first[name]
                origin = node.inputs[source]
                assert origin is not None
                relations.same(relations.axis(origin, axis), relations.axis(value, k))
        relations.pin(relations.axis(node.operands[0], 1), "position in a sequence")
        relations.contract(node, 4, relations.axis(node.operands[4], 2))
        self._scale(relations, node)

    def _scale(self, relations: Relations, node: Node) -> None:
        """The result and the states have the factors of ``u`` along D, states those of B along N.

        C takes the inverse of those of B.  A gate with a slope, which takes the inverse, passes on
        its own.  All else turns up in an exponent, a softplus or a sigmoid.
        """
        u, _, _, rows, columns = node.operands[:5]
        start, slope = (node.inputs[i] if len(node.inputs) > i else None for i in (START, SLOPE))
        before, after = relations.axis(u, 2), relations.axis(node.outputs[0], 2)
        if slope is None:
            relations.same(before, after, Action.SCALE)
        else:
            gate = node.inputs[GATE]
            assert gate is not None
            own, passed = relations.axis(slope, 0), relations.axis(gate, 2)
            relations.balance(Action.SCALE, (passed, 1), (own, 1))
            relations.balance(Action.SCALE, (after, -1), (before, 1), (passed, 1))
        for state in (start, node.outputs[1]):
            if state is not None:
                relations.same(relations.axis(u, 2), relations.axis(state, 1), Action.SCALE)
                relations.same(relations.axis(rows, 2), relations.axis(state, 2), Action.SCALE)
        ends = (relations.axis(rows, 2), 1), (relations.axis(columns, 2), 1)
        relations.balance(Action.SCALE, *ends)
