"""The table of ops."""

from dataclasses import fields, is_dataclass

from qc.ir import ops
from qc.ir.graph import Graph
from qc.ir.types import TensorType


def test_every_op_stands_under_its_own_name():
    assert all(op.__name__ == name and issubclass(op, ops.Op) for name, op in ops.OPS.items())
    assert set(ops.__all__) == {"OPS", "Op", *ops.OPS}


def test_every_op_has_defaults_and_says_what_it_means():
    for op in ops.OPS.values():
        assert is_dataclass(op), op
        assert op.__doc__, op
        assert op() == op(), op
        assert all(f.name in op().__dict__ for f in fields(op)), op


def test_ops_that_hold_graphs_infer_from_them():
    branch = Graph()
    x = branch.input("x", TensorType("float32", (2,)))
    branch.outputs = [branch.add(ops.Relu(), [x]).output]
    graph = Graph()
    condition = graph.input("c", TensorType("bool", ()))
    value = graph.input("v", TensorType("float32", (2,)))
    node = graph.add(ops.If(branch, branch), [condition, value])
    assert node.output.type == TensorType("float32", (2,))
    scan = graph.add(ops.Scan(branch, 0, 1), [graph.input("s", TensorType("float32", (5, 2)))])
    assert scan.output.type == TensorType("float32", (5, 2))
