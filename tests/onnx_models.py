"""Small ONNX models, and what becomes of them beside onnxruntime."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from qc.frontends.from_onnx import load
from qc.ir.errors import FrontendError
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify

RNG = np.random.default_rng(0)
FLOAT, HALF, INT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def model(nodes, inputs, outputs, weights=None, opset=18, ir=8, domains=()):
    """A model; inputs and outputs are ``name: (type, shape)``, weights ``name: array``."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, *t) for n, t in inputs.items()],
        [helper.make_tensor_value_info(n, *t) for n, t in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir)


def one(kind, arrays, opset, weights=None, results=1, out=FLOAT, **attributes):
    """A model of one node, ``x0, x1, ...`` inputs and ``weights`` after them."""
    weights = weights or {}
    ins = [*(f"x{i}" for i in range(len(arrays))), *weights]
    ins = ["" if n.startswith("absent") else n for n in ins]
    weights = {n: a for n, a in weights.items() if not n.startswith("absent")}
    outs = [f"y{i}" for i in range(results)]
    node = helper.make_node(kind, ins, outs, name="the_node", **attributes)
    types = {
        f"x{i}": (helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for i, a in enumerate(arrays)
    }
    return model([node], types, dict.fromkeys(outs, (out, None)), weights, opset)


def same(proto, feed, rtol=1e-5, atol=1e-6):
    """The graph of ``proto``, which gives what onnxruntime gives."""
    graph = load(proto)
    verify(graph)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    names = [o.name for o in session.get_outputs()]
    expected = dict(zip(names, session.run(None, feed), strict=True))
    got = evaluate(graph, feed)
    assert list(got) == names
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol, atol)
    return graph


def same_one(kind, arrays, opset, weights=None, **more):
    return same(
        one(kind, arrays, opset, weights, **more), {f"x{i}": a for i, a in enumerate(arrays)}
    )


def ints(*values):
    return np.array(values, np.int64)


X = normal(2, 3, 4)
IMAGE = normal(1, 4, 7, 6)


def refused(proto_or_path) -> str:
    with pytest.raises(FrontendError) as caught:
        load(proto_or_path)
    assert "\n" not in str(caught.value)
    return str(caught.value)
