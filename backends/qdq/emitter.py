"""An ONNX graph under construction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...ir.graph import Node, Value
from ...ir.types import Array, TensorType, numpy_dtype

Attribute = int | float | str | Sequence[int] | Sequence[float] | onnx.TensorProto | onnx.GraphProto

_PART = 1 << 20
BESIDE_FILE = "beside"
"""Where weights lie that are not in the model, until somebody gives them a place."""


@dataclass(frozen=True)
class Stored:
    """A tensor as ONNX stores it: the code of its type, its shape, its elements.

    Those of less than a byte are packed: uint8, flat, the first one in the low bits.
    """

    code: int
    shape: tuple[int, ...]
    data: Array

    @property
    def is_packed(self) -> bool:
        """Whether several elements share a byte."""
        return self.code == onnx.TensorProto.INT4

    def tensor(self, name: str) -> onnx.TensorProto:
        """The tensor without its elements."""
        return onnx.TensorProto(name=name, data_type=self.code, dims=self.shape)


@dataclass
class Emitter:
    """Collects nodes and initializers; ``taken`` are the names of the graph's own values.

    Initializers of ``least`` bytes and more lie ``beside`` the model.
    """

    taken: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    least: float = math.inf
    beside: dict[str, Stored] = field(default_factory=dict)
    domains: set[str] = field(default_factory=set)
    titles: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)

    def node(
        self,
        kind: str,
        ins: Sequence[str],
        outs: Sequence[str],
        attributes: dict[str, Attribute] | None = None,
        domain: str = "",
        name: str = "",
    ) -> None:
        """Append a node; trailing absent operands are left out."""
        operands = list(ins)
        while operands and not operands[-1]:
            operands.pop()
        unique = name if name not in self.named else f"{name}/{outs[0]}"
        self.named.add(unique)
        proto = helper.make_node(kind, operands, list(outs), name=unique, domain=domain)
        for key, value in (attributes or {}).items():
            proto.attribute.append(_attribute(key, value))
        self.nodes.append(proto)
        if domain:
            self.domains.add(domain)

    def step(
        self,
        kind: str,
        ins: Sequence[str],
        base: str,
        attributes: dict[str, Attribute] | None = None,
    ) -> str:
        """The name of an intermediate result that starts with ``base``."""
        out = self.fresh(f"{base}.{kind.lower()}")
        self.node(kind, ins, [out], attributes, name=out)
        return out

    def constant(self, array: Array, base: str) -> str:
        """The name of a new initializer that starts with ``base``."""
        name = self.fresh(f"{base}.c")
        self.initializer(np.asarray(array, order="C"), name)
        return name

    def nibbles(self, codes: Array, base: str) -> str:
        """The name of a new initializer of type int4 for int8 numbers."""
        name = self.fresh(f"{base}.c")
        self._append(name, Stored(onnx.TensorProto.INT4, codes.shape, _nibbles(codes)))
        return name

    def initializer(self, array: Array, name: str) -> None:
        """Append an initializer called ``name``."""
        if array.nbytes < self.least:
            self.initializers.append(numpy_helper.from_array(array, name))
            return
        code = int(helper.np_dtype_to_tensor_dtype(array.dtype))
        self._append(name, Stored(code, array.shape, array))

    def _append(self, name: str, stored: Stored) -> None:
        proto = stored.tensor(name)
        if stored.data.nbytes < self.least:
            proto.raw_data = stored.data.tobytes()
        else:
            proto.data_location = onnx.TensorProto.EXTERNAL
            proto.external_data.add(key="location", value=BESIDE_FILE)
            self.beside[name] = stored
        self.initializers.append(proto)

    def inner(self) -> Emitter:
        """For a graph inside a node, which holds all of its initializers."""
        return replace(self, nodes=[], initializers=[], least=math.inf)

    def ints(self, values: Sequence[int], base: str) -> str:
        """An int64 vector as initializer."""
        return self.constant(np.asarray(values, np.int64), base)

    def fresh(self, name: str) -> str:
        """A name that no value has yet."""
        unique, i = name, 1
        while unique in self.taken:
            unique, i = f"{name}.{i}", i + 1
        self.taken.add(unique)
        return unique

    def _title(self, name: str) -> str:
        """A node name that no other node has."""
        unique, i = name, 1
        while unique in self.titles:
            unique, i = f"{name}.{i}", i + 1
        self.titles.add(unique)
        return unique


def _nibbles(codes: Array) -> Array:
    """Two int4 in a byte, a few at a time."""
    flat = codes.reshape(-1)
    out = np.zeros((flat.size + 1) // 2, np.uint8)
    for start in range(0, flat.size, _PART):
        part = flat[start : start + _PART].view(np.uint8) & 15
        low, high = part[::2], part[1::2]
        into = out[start // 2 :]
        into[: low.size] = low
        into[: high.size] |= high << 4
    return out


def _attribute(key: str, value: Attribute) -> onnx.AttributeProto:
    """Also for an empty list, whose type ``onnx`` cannot guess: integers."""
    if isinstance(value, list | tuple) and not value:
        return helper.make_attribute(key, [], attr_type=onnx.AttributeProto.INTS)
    return helper.make_attribute(key, value)


def operands(node: Node) -> list[str]:
    """The names of a node's operands; absent ones are empty."""
    return ["" if v is None else v.name for v in node.inputs]


def element_code(dtype: str) -> int:
    """ONNX's code of an element type."""
    return int(helper.np_dtype_to_tensor_dtype(numpy_dtype(dtype)))


def value_info(value: Value, name: str | None = None) -> onnx.ValueInfoProto:
    """Name and type of an input or output; symbols stay symbols."""
    t: TensorType = value.type
    return helper.make_tensor_value_info(name or value.name, element_code(t.dtype), list(t.shape))
