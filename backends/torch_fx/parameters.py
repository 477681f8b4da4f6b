"""The constants of a graph as parameters and buffers of a module, under their own paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import nn

from ...ir.graph import Graph, Node, Value
from ...ir.types import Array

LOWEST = -1e4
"""A constant with elements this low is a mask."""

_TABLES = ("Mul", "Div", "Sub", "Where", "Pow", "Max", "Min", "Clip")


@dataclass
class Attributes:
    """Gives constants their places in ``root``: modules within modules, as the names say."""

    root: nn.Module
    frozen: Sequence[str] = ()
    paths: dict[int, str] = field(default_factory=dict)

    def path(self, value: Value) -> str:
        """The path of ``value``, which is registered when it is first asked for."""
        if id(value) not in self.paths:
            self.paths[id(value)] = self._register(value)
        return self.paths[id(value)]

    def _register(self, value: Value) -> str:
        assert value.data is not None
        *way, last = (re.sub(r"\W", "_", part) or "_" for part in value.name.split("."))
        holder = self.root
        for i, part in enumerate(way):
            inner = getattr(holder, part, None)
            if inner is None:
                holder.add_module(part, inner := nn.Module())
            if not isinstance(inner, nn.Module):
                way[i:] = ["_".join((*way[i:], last))]
                last = way.pop()
                break
            holder = inner
        while hasattr(holder, last):
            last += "_"
        tensor = tensor_of(value.data)
        if is_trainable(value) and not any(fnmatchcase(value.name, p) for p in self.frozen):
            holder.register_parameter(last, nn.Parameter(tensor))
        else:
            holder.register_buffer(last, tensor)
        return ".".join((*way, last))


def tensor_of(array: Array) -> torch.Tensor:
    """A tensor of its own memory."""
    return torch.from_numpy(np.array(array))


def is_trainable(value: Value) -> bool:
    """Whether a constant is a weight, by its type, its elements and what reads it.

    Not: integers and bools, single numbers, statistics of batch norm, masks (elements below
    ``LOWEST``), and tables of several axes that are multiplied element by element (rotary
    positions).
    """
    data = value.data
    if data is None or not value.type.is_float or data.size < 2:
        return False
    if not np.isfinite(data).all() or data.min() <= LOWEST:
        return False
    return not any(_is_fixed(value, user) for user in value.uses)


def _is_fixed(value: Value, user: Node) -> bool:
    if user.op.name == "BatchNormalization":
        return any(v is value for v in user.inputs[3:])
    wide = sum(d != 1 for d in value.shape)
    return user.op.name in _TABLES and wide > 1


def shared(graph: Graph) -> list[Value]:
    """The constants that nodes or outputs read."""
    outputs = {id(v) for v in graph.outputs}
    return [v for v in graph.constants if v.uses or id(v) in outputs]
