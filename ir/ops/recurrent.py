"""Recurrent layers as ONNX states them: RNN, GRU, LSTM (opsets 7 to 22)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import special
from ..types import Array, Dim, TensorType
from .base import Op, Operands, given, operand, optional

Cell = Callable[[Array, list[Array]], list[Array]]
"""The next states (the hidden one first) from one step's projected input and the states."""

_FUNCTIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "relu": lambda x, a, b: np.maximum(x, 0),
    "tanh": lambda x, a, b: np.tanh(x),
    "sigmoid": lambda x, a, b: special.expit(x),
    "affine": lambda x, a, b: np.add(np.multiply(a, x), b),
    "leakyrelu": lambda x, a, b: np.where(np.less(x, 0), np.multiply(a, x), x),
    "thresholdedrelu": lambda x, a, b: np.where(np.greater(x, a), x, 0),
    "scaledtanh": lambda x, a, b: np.multiply(a, np.tanh(np.multiply(b, x))),
    "hardsigmoid": lambda x, a, b: np.clip(np.add(np.multiply(a, x), b), 0, 1),
    "elu": lambda x, a, b: np.where(np.less(x, 0), np.multiply(a, np.expm1(x)), x),
    "softsign": lambda x, a, b: np.divide(x, np.add(1, np.abs(x))),
    "softplus": lambda x, a, b: np.logaddexp(0, x),
}
_ALPHA = {"leakyrelu": 0.01, "thresholdedrelu": 1.0, "hardsigmoid": 0.2, "elu": 1.0, "affine": 1.0}
_BETA = {"hardsigmoid": 0.5}


@dataclass(frozen=True)
class Recurrent(Op):
    """A layer that runs over a sequence, forwards, backwards (``reverse``) or both ways.

    Operands: x ``[length, batch, in]``, W ``[ways, gates * hidden, in]``, R ``[ways, gates *
    hidden, hidden]``, B ``[ways, 2 * gates * hidden]``?, lengths ``int32[batch]``?, initial
    states ``[ways, batch, hidden]``?.  Results: all hidden states ``[length, ways, batch,
    hidden]``, the last ones ``[ways, batch, hidden]``.  With ``layout`` 1 the batch comes first.
    Beyond a sequence's length hidden states are 0 and states stay.
    """

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    standard: ClassVar[tuple[str, ...]] = ("Tanh",)

    hidden_size: int = 1
    direction: str = "forward"
    activations: tuple[str, ...] = ()
    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    clip: float | None = None
    layout: int = 0

    @property
    def ways(self) -> int:
        """1, or 2 where the layer runs both ways."""
        return 2 if self.direction == "bidirectional" else 1

    def infer(self, ins: Operands) -> list[TensorType]:
        x, w, r = (operand(ins, i).type for i in range(3))
        if self.direction not in ("forward", "reverse", "bidirectional"):
            raise ValueError(f"direction {self.direction!r} does not exist")
        rows, hidden = self.gates * self.hidden_size, self.hidden_size
        if x.rank != 3 or w.shape[:2] != (self.ways, rows) or r.shape != (self.ways, rows, hidden):
            raise ValueError(f"input {x}, weights {w} and {r} are not of {hidden} hidden units")
        for name in self.names(0) + self.names(self.ways - 1):
            if name not in _FUNCTIONS:
                raise ValueError(f"activation {name!r} does not exist")
        length, batch = x.shape[:2] if self.layout == 0 else x.shape[1::-1]
        every: tuple[Dim, ...] = (length, self.ways, batch, hidden)
        last: tuple[Dim, ...] = (self.ways, batch, hidden)
        if self.layout:
            every, last = (batch, length, self.ways, hidden), (batch, self.ways, hidden)
        return [TensorType(x.dtype, every), *[TensorType(x.dtype, last)] * self.states]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        start = [optional(ins, 5 + i) for i in range(self.states)]
        if self.layout:
            x = x.swapaxes(0, 1)
            start = [None if s is None else s.swapaxes(0, 1) for s in start]
        lengths = optional(ins, 4)
        count = np.full(x.shape[1], len(x)) if lengths is None else lengths.astype(np.int64)
        zeros = np.zeros((self.ways, x.shape[1], self.hidden_size), x.dtype)
        states = [zeros if s is None else s for s in start]
        every, last = zip(
            *(self._way(way, x, count, ins, [s[way] for s in states]) for way in range(self.ways)),
            strict=True,
        )
        results = [np.stack(every, 1), *(np.stack(s) for s in zip(*last, strict=True))]
        if self.layout:
            results = [results[0].transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in results[1:])]
        return [np.ascontiguousarray(a).astype(x.dtype, copy=False) for a in results]

    def _way(
        self, way: int, x: Array, count: Array, ins: Sequence[Array | None], states: list[Array]
    ) -> tuple[Array, list[Array]]:
        """All hidden states and the last states of one direction."""
        back = self.direction == "reverse" or way == 1
        steps = np.arange(len(x))[:, None]
        order = np.where(steps < count, count - 1 - steps, steps) if back else steps + 0 * count
        at = (order, np.arange(x.shape[1])[None])
        cell, projected = self.cell(way, ins), np.matmul(x[at], given(ins, 1)[way].T)
        every = np.zeros((len(x), *states[0].shape), x.dtype)
        for t in range(len(x)):
            alive = (t < count)[:, None]
            following = cell(projected[t], states)
            states = [np.where(alive, n, s) for n, s in zip(following, states, strict=True)]
            every[t] = np.where(alive, states[0], 0)
        return every[at] if back else every, states

    def cell(self, way: int, ins: Sequence[Array | None]) -> Cell:
        """One step of direction ``way``."""
        raise NotImplementedError(self.name)

    def names(self, way: int) -> list[str]:
        """The activations of direction ``way``, in small letters."""
        count = len(self.standard)
        return [n.lower() for n in self.activations[way * count :][:count] or self.standard]

    def activation(self, way: int, index: int) -> Callable[[Array], Array]:
        """Activation ``index`` of a direction, with its constants and the clip before it."""
        name = self.names(way)[index]
        alpha, beta = self.constants(way, index)

        def function(x: Array) -> Array:
            y = x if self.clip is None else np.clip(x, -self.clip, self.clip)
            return _FUNCTIONS[name](y, alpha, beta).astype(x.dtype, copy=False)

        return function

    def constants(self, way: int, index: int) -> tuple[float, float]:
        """Alpha and beta of an activation."""
        name, at = self.names(way)[index], way * len(self.standard) + index
        alpha = self.activation_alpha[at : at + 1] or (_ALPHA.get(name, 0.0),)
        beta = self.activation_beta[at : at + 1] or (_BETA.get(name, 0.0),)
        return alpha[0], beta[0]

    def biases(self, way: int, ins: Sequence[Array | None]) -> tuple[Array, Array]:
        """The bias of the inputs and that of the states."""
        b = optional(ins, 3)
        rows = self.gates * self.hidden_size
        whole = np.zeros(2 * rows, given(ins).dtype) if b is None else b[way]
        return whole[:rows], whole[rows:]


@dataclass(frozen=True)
class RNN(Recurrent):
    """``h = f(x W' + h R' + Wb + Rb)``."""

    def cell(self, way: int, ins: Sequence[Array | None]) -> Cell:
        r, f = given(ins, 2)[way].T, self.activation(way, 0)
        wb, rb = self.biases(way, ins)

        def step(x: Array, states: list[Array]) -> list[Array]:
            return [f(x + np.matmul(states[0], r) + (wb + rb))]

        return step


@dataclass(frozen=True)
class GRU(Recurrent):
    """Gates z, r, h: ``n = g(x Wh' + (r * h) Rh' + ...)``, ``h = (1 - z) * n + z * h``.

    With ``linear_before_reset`` it is ``n = g(x Wh' + r * (h Rh' + Rbh) + Wbh)``.
    """

    gates: ClassVar[int] = 3
    standard: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh")

    linear_before_reset: bool = False

    def cell(self, way: int, ins: Sequence[Array | None]) -> Cell:
        n = self.hidden_size
        r, f, g = given(ins, 2)[way].T, self.activation(way, 0), self.activation(way, 1)
        wb, rb = self.biases(way, ins)

        def step(x: Array, states: list[Array]) -> list[Array]:
            h = states[0]
            gates = f(x[:, : 2 * n] + np.matmul(h, r[:, : 2 * n]) + (wb + rb)[: 2 * n])
            z, reset = gates[:, :n], gates[:, n:]
            if self.linear_before_reset:
                old = reset * (np.matmul(h, r[:, 2 * n :]) + rb[2 * n :])
            else:
                old = np.matmul(reset * h, r[:, 2 * n :]) + rb[2 * n :]
            fresh = g(x[:, 2 * n :] + old + wb[2 * n :])
            return [(1 - z) * fresh + z * h]

        return step


@dataclass(frozen=True)
class LSTM(Recurrent):
    """Gates i, o, f, c: ``C = f * C + i * c``, ``h = o * act(C)``.

    Two more operands: initial cells, and peepholes ``P [ways, 3 * hidden]`` (i, o, f).  One more
    result: the last cells.  ``input_forget`` couples ``f = 1 - i``.
    """

    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2
    standard: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh", "Tanh")

    input_forget: bool = False

    def cell(self, way: int, ins: Sequence[Array | None]) -> Cell:
        n, peep = self.hidden_size, optional(ins, 7)
        p = np.zeros(3 * n, given(ins).dtype) if peep is None else peep[way]
        r, (wb, rb) = given(ins, 2)[way].T, self.biases(way, ins)
        f, g, out = (self.activation(way, i) for i in range(3))

        def step(x: Array, states: list[Array]) -> list[Array]:
            h, c = states
            i_, o_, f_, c_ = np.split(x + np.matmul(h, r) + (wb + rb), 4, 1)
            i = f(i_ + p[:n] * c)
            forget = 1 - i if self.input_forget else f(f_ + p[2 * n :] * c)
            cell = forget * c + i * g(c_)
            return [f(o_ + p[n : 2 * n] * cell) * out(cell), cell]

        return step
