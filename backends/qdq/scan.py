"""The selective scan in ONNX: a Scan over time, with what needs no state outside of it."""

from __future__ import annotations

import onnx
from onnx import helper

from ...ir import ops
from ...ir.graph import Node
from ...ir.ops.selective_scan import BIAS, GATE, SLOPE, START, D
from .emitter import Attribute, Emitter, element_code, operands

_TURNED: dict[str, Attribute] = {"perm": [1, 0, 2]}
"""Between batch first and time first."""


def selective_scan(node: Node, emitter: Emitter) -> None:
    """Softplus, D and gate become nodes around a Scan."""
    op, base = node.op, node.output.name
    assert isinstance(op, ops.SelectiveScan)
    ins = [*operands(node), *[""] * 5]
    u, delta, a, b, c = ins[:5]
    if ins[BIAS]:
        delta = emitter.step("Add", [delta, ins[BIAS]], base)
    if op.softplus:
        delta = emitter.step("Softplus", [delta], base)
    moved = emitter.step("Mul", [delta, u], base)
    timed = [emitter.step("Transpose", [x], base, _TURNED) for x in (delta, moved, b, c)]
    way, y = int(op.reverse), emitter.fresh(f"{base}.steps")
    attributes: dict[str, Attribute] = {
        "body": _body(node, a, emitter),
        "num_scan_inputs": len(timed),
        "scan_input_directions": [way] * len(timed),
        "scan_output_directions": [way],
    }
    start = ins[START] or _zeros(node, emitter)
    outs = [node.outputs[1].name, y]
    emitter.node("Scan", [start, *timed], outs, attributes, name=node.name)
    stages: list[tuple[str, list[str], dict[str, Attribute] | None]] = []
    stages.append(("Transpose", [], _TURNED))
    if ins[D]:
        stages.append(("Add", [emitter.step("Mul", [ins[D], u], base)], None))
    if z := ins[GATE]:
        steep = emitter.step("Mul", [z, ins[SLOPE]], base) if ins[SLOPE] else z
        gate = emitter.step("Mul", [z, emitter.step("Sigmoid", [steep], base)], base)
        stages.append(("Mul", [gate], None))
    for kind, rest, settings in stages[:-1]:
        y = emitter.step(kind, [y, *rest], base, settings)
    kind, rest, settings = stages[-1]
    emitter.node(kind, [y, *rest], [base], settings, name=base)


def _zeros(node: Node, emitter: Emitter) -> str:
    """The initial state; the batch may be a symbol."""
    u, base = node.operands[0], node.output.name
    state = node.outputs[1].type
    batch = emitter.step("Shape", [u.name], base, {"start": 0, "end": 1})
    rest = emitter.ints([d for d in state.shape[1:] if isinstance(d, int)], base)
    shape = emitter.step("Concat", [batch, rest], base, {"axis": 0})
    zero = helper.make_tensor("zero", element_code(state.dtype), [1], [0.0])
    return emitter.step("ConstantOfShape", [shape], base, {"value": zero})


def _body(node: Node, a: str, emitter: Emitter) -> onnx.GraphProto:
    """One step; A is read from outside."""
    base, inner = f"{node.output.name}.body", emitter.inner()
    h, delta, moved, b, c, following, y = (
        emitter.fresh(f"{base}.{n}") for n in ("h", "delta", "moved", "b", "c", "next", "y")
    )
    last, middle = inner.ints([-1], base), inner.ints([1], base)
    power = inner.step("Mul", [inner.step("Unsqueeze", [delta, last], base), a], base)
    kept = inner.step("Mul", [inner.step("Exp", [power], base), h], base)
    row = inner.step("Unsqueeze", [b, middle], base)
    added = inner.step("Mul", [inner.step("Unsqueeze", [moved, last], base), row], base)
    inner.node("Add", [kept, added], [following], name=following)
    column = inner.step("Unsqueeze", [c, last], base)
    product = inner.step("MatMul", [following, column], base)
    inner.node("Squeeze", [product, last], [y], name=y)
    state = node.outputs[1].type
    element, (batch, channels, states) = element_code(state.dtype), state.shape
    wide, narrow = [batch, channels], [batch, states]
    shapes = {h: state.shape, delta: wide, moved: wide, b: narrow, c: narrow}
    infos = {
        name: helper.make_tensor_value_info(name, element, list(shape))
        for name, shape in {**shapes, following: state.shape, y: wide}.items()
    }
    inputs = [infos[name] for name in shapes]
    return helper.make_graph(
        inner.nodes, base, inputs, [infos[following], infos[y]], inner.initializers
    )
