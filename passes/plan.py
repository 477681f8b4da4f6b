"""Which values of a float graph become codes, and which of them must share one scale.

A node is *integer* if it leads to a convolution or matrix product through integer nodes; what comes
after the last of those stays float, except for poolings and a softmax, which keep 16-bit codes (so
that classifiers end exactly).  Codes begin as late as they can: an elementwise function of what
float nodes made stays float too, since codes of its operands lose more than codes of its result
(a square root of sums of squares loses all that is small).  Values inside a fusion (convolution ->
sum -> clamp) carry no codes of their own: the accumulator goes through.  The network's inputs have
8 bits even where other activations have fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from ..ir.graph import Graph, Node, Value
from ..ir.ops.resize import Resize
from .context import Kept

ANCHORS = frozenset({"Conv", "Gemm", "MatMul"})
MOVERS = frozenset({
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Concat",
    "DepthToSpace", "SpaceToDepth", "Expand", "Tile", "Identity", "MaxPool", "Pad", "Resize",
})  # fmt: skip
CLAMPS = frozenset({"Relu", "Clip"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool"})
SUMS = frozenset({"Add", "Sub"})
UNARY = frozenset({
    "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Sigmoid", "HardSigmoid", "HardSwish",
    "Silu", "Tanh", "Softplus", "Softsign", "Mish", "Gelu", "Erf", "Exp", "Log", "Sqrt",
    "Reciprocal", "Neg", "Abs", "Sign", "Floor", "Ceil", "Round", "Sin", "Cos",
})  # fmt: skip
MASK = 1e6
"""An additive constant beyond this is a mask, whose range would ruin the codes."""


KEEP_NOTHING = Kept()


@dataclass
class Plan:
    """Bits of the codes per value, groups of values that share a scale, hosts of fused sums.

    ``joints``: operand and result of concatenations that share a scale only where their ranges
    are alike; elsewhere the operand is requantized on its way in.
    """

    bits: dict[str, int] = field(default_factory=dict)
    group: dict[str, str] = field(default_factory=dict)
    joints: list[tuple[str, str]] = field(default_factory=list)
    hosts: dict[str, str] = field(default_factory=dict)
    why_float: dict[str, str] = field(default_factory=dict)

    def members(self) -> dict[str, list[str]]:
        """Names by the representative of their group."""
        out: dict[str, list[str]] = {}
        for name in self.bits:
            out.setdefault(self.find(name), []).append(name)
        return out

    def find(self, name: str) -> str:
        """The representative of a value's group."""
        root = name
        while self.group.get(root, root) != root:
            root = self.group[root]
        self.group[name] = root
        return root

    def tie(self, a: str, b: str) -> None:
        """Let two values share a scale."""
        self.group[self.find(a)] = self.find(b)


def plan(
    graph: Graph,
    kept: Kept = KEEP_NOTHING,
    activation_bits: int = 8,
    chosen: Mapping[str, int] = MappingProxyType({}),
) -> Plan:
    """Decide what becomes codes; ``chosen``: bits by name, instead of ``activation_bits``."""
    out = Plan()
    roles = {id(n): role(n, kept) for n in graph.nodes}
    roles.update(dict.fromkeys(_before_codes(graph, roles), "float: codes begin after it"))
    for node in graph.nodes:
        if roles[id(node)].startswith("float"):
            out.why_float[node.name] = roles[id(node)].partition(": ")[2]
    need = _needed(graph, roles)
    inner = _fusions(graph, roles, need, out)
    for name in need - inner:
        if graph[name].type.is_float:
            out.bits[name] = 8
    _tails(graph, roles, out)
    for node in graph.nodes:
        if roles[id(node)] == "mover":
            _tie(graph, node, out)
        elif not roles[id(node)].startswith("float") and not _takes_part(node, out):
            out.why_float.setdefault(node.name, "nothing integer follows it")
    _narrow(graph, activation_bits, chosen, out)
    return out


def role(node: Node, kept: Kept = KEEP_NOTHING) -> str:
    """What a node is to quantization: an anchor, mover, clamp, ... or ``float: reason``."""
    name = node.op.name
    if why := kept.why(node.name):
        return f"float: {why}"
    if not node.outputs or not all(v.type.is_float for v in node.outputs):
        return "float: not a float tensor"
    if name in ANCHORS:
        return _anchor(node)
    if name in MOVERS:
        return _mover(node)
    if name in SUMS:
        return _sum(node)
    if name == "Mul":
        constants = [v for v in node.operands if v.is_constant]
        if not constants:
            return "product"
        return "unary" if _scalar(constants[0]) else "float: a product with a constant tensor"
    if name == "Div" and node.operands[1].is_constant and _scalar(node.operands[1]):
        return "unary"
    if name in CLAMPS:
        return "clamp"
    if name in POOLS:
        return _pool(node)
    if name in UNARY:
        return "unary"
    return "softmax" if name == "Softmax" else f"float: {name} has no integer form"


def interpolates(node: Node) -> bool:
    """Whether ``node`` is a linear Resize that codes can do in fixed point."""
    op = node.op
    return (
        isinstance(op, Resize)
        and op.mode == "linear"
        and not (op.antialias or op.exclude_outside or op.scales is op.sizes)
        and node.operands[0].type.rank <= 5
    )


def fusable_clamp(graph: Graph, value: Value) -> Node | None:
    """The clamp that alone reads ``value``, if one does."""
    user = graph.sole_use(value)
    return user if user is not None and user.op.name in CLAMPS else None


def _anchor(node: Node) -> str:
    if not node.operands[1].is_constant:
        both = node.op.name == "MatMul" and not node.operands[0].is_constant
        return "anchor" if both else "float: its weights are not constant"
    if node.operands[0].is_constant or node.operands[1].type.rank < 2:
        return "float: its input is constant or its weights are a vector"
    if node.op.name == "MatMul" and node.operands[1].type.rank != 2:
        return "float: batched constant weights"
    if node.operands[0].type.rank < 2:
        return "float: its input is a vector"
    if len(node.operands) > 2 and not node.operands[2].is_constant:
        return "float: its bias is not constant"
    if node.op.name == "Gemm" and (
        getattr(node.op, "trans_a", False) or node.operands[1].type.rank != 2
    ):
        return "float: a transposed input"
    return "anchor"


def _mover(node: Node) -> str:
    name, data = node.op.name, node.operands[0]
    if data.is_constant and name != "Concat":
        return "float: a constant"
    if name == "Concat" and any(v.is_constant for v in node.operands):
        return "float: joins a constant"
    if name == "Gather" and not node.operands[1].is_constant:
        return "float: indices known only at run time"
    if isinstance(node.op, Resize) and not (node.op.mode == "nearest" or interpolates(node)):
        return "float: interpolates by cubics, or sizes known only at run time"
    if name == "Pad":
        zero = getattr(node.op, "value", 0.0) == 0 and len(node.operands) == 1
        if getattr(node.op, "mode", "constant") != "constant" or not zero:
            return "float: pads with something else than zero"
    if name == "MaxPool" and len(node.outputs) > 1:
        return "float: returns indices"
    return "mover"


def _sum(node: Node) -> str:
    constants = [v for v in node.operands if v.is_constant]
    if len(constants) == 2:
        return "float: a constant"
    if (
        constants
        and constants[0].data is not None
        and np.abs(constants[0].data).max(initial=0) > MASK
    ):
        return "float: adds a mask"
    return "sum"


def _pool(node: Node) -> str:
    padded = any(getattr(node.op, "pads", ()))
    if padded and getattr(node.op, "count_include_pad", False):
        return "float: averages over padding"
    if any(d != 1 for d in getattr(node.op, "dilations", ())):
        return "float: a dilated pooling"
    return "pool"


def _scalar(value: Value) -> bool:
    return value.data is not None and value.data.size == 1


ELEMENTWISE = frozenset({"sum", "product", "unary", "clamp"})


def _before_codes(graph: Graph, roles: dict[int, str]) -> list[int]:
    """Elementwise nodes, by id, whose operands all come from float nodes, if through movers."""
    real: set[str] = set()
    found = []
    for node in graph.nodes:
        kind = roles[id(node)]
        operands = [v.name for v in node.operands if not v.is_constant]
        follows = kind in ELEMENTWISE or kind == "mover"
        if not operands or (follows and not real.issuperset(operands)):
            continue
        if follows or kind.startswith("float") or kind == "softmax":
            real.update(v.name for v in node.outputs)
        if kind in ELEMENTWISE:
            found.append(id(node))
    return found


INTEGER = frozenset({"anchor", "mover", "clamp", "sum", "product", "pool", "unary"})


def _needed(graph: Graph, roles: dict[int, str]) -> set[str]:
    """Values read, through integer nodes, by an anchor."""
    need: set[str] = set()
    for node in reversed(graph.nodes):
        kind = roles[id(node)]
        if kind == "anchor" or (kind in INTEGER and any(v.name in need for v in node.outputs)):
            need.update(v.name for v in _reads(node, kind) if v.type.is_float)
    return need


def _reads(node: Node, kind: str) -> Sequence[Value]:
    """The operands that an integer form of ``node`` takes as codes."""
    if kind in ("sum", "product") or node.op.name == "Concat":
        return node.operands
    if kind == "anchor":
        return node.operands[:1] if node.operands[1].is_constant else node.operands[:2]
    return [v for v in node.operands if not v.is_constant][:1]


def _fusions(graph: Graph, roles: dict[int, str], need: set[str], out: Plan) -> set[str]:
    """Values inside fusions; fills ``out.hosts`` (sum -> the anchor whose epilogue does it)."""
    inner: set[str] = set()
    position = {id(n): i for i, n in enumerate(graph.nodes)}
    for node in graph.nodes:
        if roles[id(node)] == "sum" and node.op.name == "Add" and node.output.name in need:
            hosts = [v.producer for v in node.operands if _hosts(graph, v, node, roles)]
            if hosts:
                host = max((h for h in hosts if h is not None), key=lambda n: position[id(n)])
                out.hosts[node.output.name] = host.output.name
                inner.add(host.output.name)
        if roles[id(node)] in ("anchor", "sum", "pool") and node.output.name in need:
            clamp = fusable_clamp(graph, node.output)
            if clamp is not None and roles[id(clamp)] == "clamp" and clamp.output.name in need:
                inner.add(node.output.name)
        if _chains(graph, node, roles, need) and not any(v.name in inner for v in node.operands):
            inner.add(node.output.name)
    return inner


def _chains(graph: Graph, node: Node, roles: dict[int, str], need: set[str]) -> bool:
    """Whether one table can do ``node`` and the unary function that alone reads it."""
    user = graph.sole_use(node.output)
    both = user is not None and {roles[id(node)], roles[id(user)]} <= {"unary", "clamp"}
    return both and user is not None and user.output.name in need


def _hosts(graph: Graph, value: Value, user: Node, roles: dict[int, str]) -> bool:
    """Whether ``value`` is an anchor's result of the sum's own shape that only the sum reads."""
    maker = value.producer
    return (
        maker is not None
        and roles[id(maker)] == "anchor"
        and graph.sole_use(value) is user
        and value.type.shape == user.output.type.shape
        and all(v.type.shape == value.type.shape for v in user.operands)
        and not any(v.is_constant for v in user.operands)
    )


def _tails(graph: Graph, roles: dict[int, str], out: Plan) -> None:
    """16-bit codes between the last anchors and a final pooling or softmax."""
    for node in graph.nodes:
        if node.output.name in out.bits or not _reads_codes(node, roles, out):
            continue
        chain, worth = _chain(graph, node, roles)
        if worth and not any(v.name in out.bits for v in chain):
            for value in chain:
                out.bits[value.name] = 16


def _reads_codes(node: Node, roles: dict[int, str], out: Plan) -> bool:
    if roles[id(node)] == "pool":
        return node.operands[0].name in out.bits
    return roles[id(node)] == "anchor" and node.output.name not in out.hosts.values()


def _chain(graph: Graph, start: Node, roles: dict[int, str]) -> tuple[list[Value], bool]:
    """Values from ``start`` along single readers up to a softmax or the end; whether it pays."""
    values, node, pools = [], start, roles[id(start)] == "pool"
    while True:
        user = graph.sole_use(node.output)
        kind = roles[id(user)] if user is not None else ""
        clamps = kind == "clamp" and roles[id(node)] in ("anchor", "pool")
        if not clamps:
            values.append(node.output)
        if user is None:
            return values, pools and graph.is_output(node.output)
        if kind == "softmax":
            return values, True
        if not (
            clamps
            or kind == "pool"
            or (
                (kind == "mover" and user.op.name not in ("Concat", "Split"))
                and not interpolates(user)
            )
        ):
            return values, pools
        pools |= kind == "pool"
        node = user


def _tie(graph: Graph, node: Node, out: Plan) -> None:
    coded = [v for v in node.outputs if v.name in out.bits]
    if not coded:
        return
    first = coded[0].name
    for value in (*node.outputs, *_reads(node, "mover")):
        if value.name not in out.bits or out.bits[value.name] != out.bits[first]:
            continue
        if node.op.name == "Concat" and value is not coded[0] and not _made_for(graph, value):
            out.joints.append((value.name, first))
        else:
            out.tie(value.name, first)


def _narrow(graph: Graph, bits: int, chosen: Mapping[str, int], out: Plan) -> None:
    """Give 8-bit codes their bits, save those that share a scale with one of the graph's inputs.

    What shares a scale has the most bits that are chosen for one of them.
    """
    inputs = {out.find(v.name) for v in graph.inputs}
    for root, members in out.members().items():
        if root not in inputs and out.bits[members[0]] == 8:
            own = max((chosen[m] for m in members if m in chosen), default=bits)
            out.bits.update(dict.fromkeys(members, own))


def _made_for(graph: Graph, value: Value) -> bool:
    """Whether ``value`` is computed for its one reader alone, whose scale then costs nothing."""
    maker = value.producer
    return maker is not None and maker.op.name not in MOVERS and graph.sole_use(value) is not None


def _takes_part(node: Node, out: Plan) -> bool:
    if node.op.name in ANCHORS:
        return True
    return any(v.name in out.bits for v in node.outputs)
