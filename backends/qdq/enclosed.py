"""Ops that hold graphs in ONNX: captures are read by name, so inner names must be new ones."""

import onnx
from onnx import helper

from ...ir import ops
from ...ir.graph import Graph, Node
from ...ir.ops.control import Control
from .emitter import Attribute, Emitter, operands, value_info


def control(node: Node, emitter: Emitter) -> None:
    """If, Loop or Scan."""
    op, ins = node.op, operands(node)
    assert isinstance(op, Control)
    attributes: dict[str, Attribute] = {}
    match op:
        case ops.If():
            passed = 1
        case ops.Loop():
            passed = 2 + op.carried
        case ops.Scan():
            passed = op.carried + op.scanned
            attributes["num_scan_inputs"] = op.scanned
    for name, graph in op.graphs.items():
        attributes[name] = _body(graph, ins[passed:], emitter, node.name)
    outs = [v.name for v in node.outputs]
    emitter.node(op.name, ins[:passed], outs, attributes, name=node.name)


def _body(graph: Graph, captures: list[str], emitter: Emitter, base: str) -> onnx.GraphProto:
    """An inner graph; its last inputs are the outer values ``captures``."""
    from .forms import write

    inner, own = emitter.inner(), graph.copy()
    for value in list(own.values):
        own.rename(value, emitter.fresh(f"{base}/{value.name}"))
    formal = len(own.inputs) - len(captures)
    for value, name in zip(own.inputs[formal:], captures, strict=True):
        inner.node("Identity", [name], [value.name], name=value.name)
    for value in own.constants:
        assert value.data is not None
        inner.initializer(value.data, value.name)
    for node in own.nodes:
        write(node, inner)
    return helper.make_graph(
        inner.nodes,
        base,
        [value_info(v) for v in own.inputs[:formal]],
        [value_info(v) for v in own.outputs],
        inner.initializers,
    )
