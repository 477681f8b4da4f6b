"""The selective scan: which of its operands there are, and whether its last state is wanted."""

from ...ir.graph import Node
from ...ir.ops.selective_scan import SelectiveScan
from .lower import Lowering
from .scan import OPTIONAL, REQUIRED, BlockedScan


def lower_scan(low: Lowering, node: Node) -> None:
    """``SelectiveScan`` in float32."""
    op = node.op
    assert isinstance(op, SelectiveScan)
    names = [
        name
        for name, value in zip((*REQUIRED, *OPTIONAL), node.inputs, strict=False)
        if value is not None
    ]
    y, last = node.outputs
    results = [y, last] if last.uses or low.graph.is_output(last) else [y]
    kernel = BlockedScan(op.softplus, op.reverse, tuple(names[len(REQUIRED) :]))
    ins = [low.place(v) for v in node.operands]
    low.generic(kernel, ins, [low.result(v) for v in results])
