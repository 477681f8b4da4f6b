"""Operators that ONNX defines by other operators, expanded with the ``onnx`` library's bodies."""

from collections.abc import Sequence

import onnx
import onnx_graphsurgeon as gs
from onnx import helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from ..ir.errors import FrontendError
from ..ir.graph import Value
from ..ir.types import numpy_dtype
from .onnx_file import label, title

Attributes = dict[str, onnx.AttributeProto]


def function_of(
    node: gs.Node, opset: int, operands: Sequence[Value | None]
) -> onnx.FunctionProto | None:
    """The body of ``node``'s operator for operands of these types, None if ONNX states none."""
    domain = str(node.domain or "")
    if not onnx.defs.has(node.op, opset, domain):
        return None
    schema = onnx.defs.get_schema(node.op, opset, domain)
    plain, typed = (
        [v for v in versions if v <= opset or domain]
        for versions in (
            schema.function_opset_versions,  # type: ignore[attr-defined]
            schema.context_dependent_function_opset_versions,  # type: ignore[attr-defined]
        )
    )
    if plain:
        data = schema.get_function_with_opset_version(max(plain))  # type: ignore[attr-defined]
    elif typed:
        types = [_type(v).SerializeToString() for v in operands]
        expand = schema.get_context_dependent_function_with_opset_version  # type: ignore[attr-defined]
        try:
            data = expand(max(typed), OnnxExporter.export_node(node).SerializeToString(), types)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise FrontendError(f"{label(node)} does not fit its definition: {reason}") from error
    else:
        return None
    return onnx.FunctionProto.FromString(data) if data else None


def has_function(node: gs.Node, opset: int) -> bool:
    """Whether ONNX defines ``node``'s operator by others, for some operands at least."""
    domain = str(node.domain or "")
    if not onnx.defs.has(node.op, opset, domain):
        return False
    return is_defined_by_others(onnx.defs.get_schema(node.op, opset, domain))


def is_defined_by_others(schema: onnx.defs.OpSchema) -> bool:
    """Whether ONNX states a body for the operator."""
    plain = schema.has_function  # type: ignore[attr-defined]
    return bool(plain or schema.has_context_dependent_function)  # type: ignore[attr-defined]


def instance(node: gs.Node, body: onnx.FunctionProto, opset: int) -> gs.Graph:
    """The body with the attributes of ``node``; names begin with the node's.

    Formal names of operands and results are those of :func:`formal`.
    """
    schema = onnx.defs.get_schema(node.op, opset, str(node.domain or ""))
    given = {n: a.default_value for n, a in schema.attributes.items() if a.default_value.name}
    given |= {a.name: a for a in OnnxExporter.export_node(node).attribute}
    absent = {
        formal_name
        for i, formal_name in enumerate(body.input)
        if i >= len(node.inputs) or not node.inputs[i].name
    }
    nodes = [_instance(n, given, f"{title(node)}/", absent) for n in body.node]
    graph = helper.make_graph(nodes, title(node), [], [])
    return gs.import_onnx(helper.make_model(graph, opset_imports=body.opset_import))


def formal(node: gs.Node, name: str) -> str:
    """The name in an instance for ``name`` in the body."""
    return f"{title(node)}/{name}"


def _instance(
    node: onnx.NodeProto, given: Attributes, prefix: str, absent: set[str]
) -> onnx.NodeProto:
    out = onnx.NodeProto()
    out.CopyFrom(node)
    del out.attribute[:], out.input[:], out.output[:]
    out.name = prefix + (node.name or next(iter(node.output)))
    out.input.extend("" if not n or n in absent else prefix + n for n in node.input)
    out.output.extend(prefix + n if n else "" for n in node.output)
    for attribute in node.attribute:
        copy = onnx.AttributeProto()
        if attribute.ref_attr_name:
            if attribute.ref_attr_name not in given:
                continue
            copy.CopyFrom(given[attribute.ref_attr_name])
            copy.name = attribute.name
        else:
            copy.CopyFrom(attribute)
            if copy.HasField("g"):
                _rename(copy.g, given, prefix, absent)
        out.attribute.append(copy)
    return out


def _rename(graph: onnx.GraphProto, given: Attributes, prefix: str, absent: set[str]) -> None:
    nodes = [_instance(n, given, prefix, absent) for n in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for item in (*graph.input, *graph.output, *graph.initializer):
        item.name = prefix + item.name


def _type(value: Value | None) -> onnx.TypeProto:
    if value is None:
        return onnx.TypeProto()
    code = helper.np_dtype_to_tensor_dtype(numpy_dtype(value.type.dtype))
    return helper.make_tensor_type_proto(code, list(value.type.shape))
