"""``agree``: an op's numpy meaning against onnxruntime, through the ONNX writer."""

from collections.abc import Callable

import numpy as np
import pytest

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir.evaluate import evaluate
from qc.ir.graph import Graph
from qc.ir.ops import Op
from qc.ir.types import type_of
from qc.ir.verify import verify


@pytest.fixture
def agree() -> Callable[..., list[np.ndarray]]:
    """The results of one op; ``constants`` says which operands are constants."""

    def check(op: Op, *arrays, constants=(), rtol=1e-5, atol=1e-6) -> list[np.ndarray]:
        graph = Graph("one")
        ins = []
        for i, a in enumerate(arrays):
            if a is None:
                ins.append(None)
            elif i in constants:
                ins.append(graph.constant(a, f"c{i}"))
            else:
                ins.append(graph.input(f"x{i}", type_of(a)))
        node = graph.add(op, ins)
        graph.outputs = list(node.outputs)
        verify(graph)
        feed = {f"x{i}": a for i, a in enumerate(arrays) if a is not None and i not in constants}
        ours = evaluate(graph, feed)
        theirs = OnnxRuntimeExecutor(1).open(graph)(feed)
        for name, mine in ours.items():
            assert mine.dtype == theirs[name].dtype
            np.testing.assert_allclose(mine, theirs[name], rtol, atol)
        return list(ours.values())

    return check
