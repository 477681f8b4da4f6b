"""Layers with constant weights seen alike: groups x outputs x inputs x taps, whatever the op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir.graph import Graph, Node
from ..ir.types import Array


@dataclass(frozen=True)
class Linear:
    """A Conv, Gemm or MatMul with constant weights and bias: what sums over its input channels."""

    node: Node

    @staticmethod
    def of(node: Node) -> Linear | None:
        """``node`` as such a layer, if it is one."""
        op: Any = node.op
        if op.name not in ("Conv", "Gemm", "MatMul") or node.operands[0].is_constant:
            return None
        if any(v.data is None for v in node.operands[1:]):
            return None
        if op.name != "Conv" and node.operands[1].type.rank != 2:
            return None
        if op.name == "Gemm" and (op.trans_a or op.trans_b or op.alpha != 1 or op.beta != 1):
            return None
        return Linear(node)

    @property
    def is_conv(self) -> bool:
        """Whether channels are axis 1, not the last one."""
        return self.node.op.name == "Conv"

    @property
    def groups(self) -> int:
        """Groups of channels that do not mix."""
        return self.node.op.group if self.is_conv else 1  # type: ignore[attr-defined]

    @property
    def kernel(self) -> tuple[int, ...]:
        """The window's size per spatial axis."""
        return self.node.operands[1].shape[2:]

    @property
    def width(self) -> int:
        """How many numbers one result sums over: inputs per group times taps."""
        shape = self.weights().shape
        return int(shape[2] * shape[3])

    @property
    def takes_bias(self) -> bool:
        """Whether the op has an operand for a bias."""
        return self.node.op.name != "MatMul"

    @property
    def axis(self) -> int:
        """The channel axis of the input."""
        return 1 if self.is_conv else self.node.operands[0].type.rank - 1

    @property
    def channels(self) -> tuple[int, int]:
        """Input and output channels."""
        shape = self.node.operands[1].shape
        return (shape[1] * self.groups, shape[0]) if self.is_conv else (shape[0], shape[1])

    def weights(self) -> Array:
        """float64 ``[groups, outputs per group, inputs per group, taps]``."""
        data = np.asarray(self.node.operands[1].data, np.float64)
        if not self.is_conv:
            return np.ascontiguousarray(data.T)[None, :, :, None]
        return data.reshape(self.groups, len(data) // self.groups, data.shape[1], -1)

    def shaped(self, weights: Array) -> Array:
        """Weights in the layout of :meth:`weights`, back in the op's own."""
        if not self.is_conv:
            return np.ascontiguousarray(weights[0, :, :, 0].T)
        return weights.reshape(self.node.operands[1].shape)

    def set(self, graph: Graph, weights: Array, bias: Array | None) -> None:
        """Give the node other weights (layout of :meth:`weights`) and bias ``[outputs]``."""
        node = self.node
        names = [v.name for v in node.operands[1:]]
        wide = self.shaped(weights).astype(np.float32)
        inputs = [node.inputs[0], graph.constant(wide, names[0])]
        if bias is not None:
            inputs.append(graph.constant(bias.astype(np.float32), (names[1:] or ["bias"])[0]))
        graph.set_inputs(node, inputs)

    def bias(self) -> Array | None:
        """float64 ``[outputs]``, or None."""
        if len(self.node.operands) < 3:
            return None
        flat = np.asarray(self.node.operands[2].data, np.float64).reshape(-1)
        return np.broadcast_to(flat, (self.channels[1],))
