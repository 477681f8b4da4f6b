"""An ONNX graph under construction."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...ir.graph import Node, Value
from ...ir.types import Array, TensorType, numpy_dtype

Attribute = int | float | str | Sequence[int] | Sequence[float] | onnx.TensorProto | onnx.GraphProto


@dataclass
class Emitter:
    """Collects nodes and initializers; ``taken`` are the names of the graph's own values."""

    taken: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
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
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

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
