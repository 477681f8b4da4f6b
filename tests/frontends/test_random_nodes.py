"""Nodes with random operands and attributes: what is wrong with them is said, never thrown.

``QC_FUZZ=100:400`` tries more seeds.
"""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qc.frontends.from_onnx import load
from qc.frontends.onnx_rules.contrib import CONTRIB
from qc.ir.errors import QcError
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify

FIRST, _, LAST = os.environ.get("QC_FUZZ", "0:4").partition(":")
TYPES = {
    TensorProto.FLOAT: 0.5, TensorProto.INT64: 0.1, TensorProto.INT32: 0.05,
    TensorProto.UINT8: 0.1, TensorProto.INT8: 0.1, TensorProto.BOOL: 0.05,
    TensorProto.FLOAT16: 0.05, TensorProto.STRING: 0.05,
}  # fmt: skip
SHAPES = ([1, 2, 4, 4], [2], [2, 3, 3], [])
WORDS = ("linear", "nearest", "SAME_UPPER", "foo", "max", "NOTSET", "cubic", "bidirectional")
KINDS = onnx.defs.OpSchema.AttrType
OPERATORS = [(s.name, "", s) for s in onnx.defs.get_all_schemas() if not s.domain]
OPERATORS += [(name, "com.microsoft", None) for name in CONTRIB]


class Maker:
    """Random models of one node."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def array(self, code: int, shape: list[int]) -> np.ndarray:
        if code == TensorProto.STRING:
            return np.full(shape, "a", object)
        whole = self.chance(0.7)
        values = self.rng.integers(-3, 5, shape) if whole else self.rng.normal(size=shape)
        return np.asarray(values).astype(helper.tensor_dtype_to_np_dtype(code))

    def attribute(self, kind: object) -> object:
        rng = self.rng
        makers = {
            KINDS.INT: lambda: int(rng.integers(-2, 5)),
            KINDS.INTS: lambda: rng.integers(-1, 4, rng.integers(1, 5)).tolist(),
            KINDS.FLOAT: lambda: float(rng.normal()),
            KINDS.FLOATS: lambda: rng.normal(size=rng.integers(1, 4)).tolist(),
            KINDS.STRING: lambda: str(rng.choice(WORDS)),
            KINDS.STRINGS: lambda: ["Tanh", "Foo"][: rng.integers(1, 3)],
            KINDS.TENSOR: lambda: numpy_helper.from_array(rng.normal(size=2).astype(np.float32)),
            KINDS.GRAPH: self.graph,
        }
        return makers[kind]() if kind in makers else None

    def graph(self) -> onnx.GraphProto:
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("gx", "gy"))
        node = helper.make_node("Relu", ["gx"], ["gy"])
        return helper.make_graph([node], "body", [x] if self.chance(0.5) else [], [y])

    def model(self, name: str, domain: str, schema: object) -> onnx.ModelProto:
        rng, codes = self.rng, list(TYPES)
        low, high = (0, 6) if schema is None else (schema.min_input - 1, schema.max_input + 2)
        main = int(rng.choice(codes, p=list(TYPES.values())))
        names, inputs, constants = [], [], []
        for i in range(int(rng.integers(max(low, 0), min(high, 10)))):
            names.append("" if self.chance(0.1) else f"x{i}")
            code = main if self.chance(0.6) else int(rng.choice(codes))
            shape = list(SHAPES[rng.integers(len(SHAPES))])
            if self.chance(0.4):
                shape = rng.integers(1, 5, rng.integers(0, 6)).tolist()
            if names[-1] and self.chance(0.5):
                constants.append(numpy_helper.from_array(self.array(code, shape), names[-1]))
            elif names[-1]:
                dims = [d if self.chance(0.8) else "n" for d in shape]
                inputs.append(helper.make_tensor_value_info(names[-1], code, dims))
        given = {} if schema is None else schema.attributes
        settings = {
            key: value
            for key, kind in given.items()
            if self.chance(0.85 if kind.required else 0.4)
            and (value := self.attribute(kind.type)) is not None
        }
        results = 1 if schema is None else int(rng.integers(1, min(schema.max_output, 4) + 1))
        outs = [f"y{i}" for i in range(results)]
        node = helper.make_node(name, names, outs, domain=domain, **settings)
        outputs = [helper.make_tensor_value_info(o, main, None) for o in outs]
        graph = helper.make_graph([node], "g", inputs, outputs, constants)
        opset = helper.make_opsetid("", int(rng.choice([8, 11, 13, 18, 28])))
        return helper.make_model(
            graph, opset_imports=[opset, helper.make_opsetid("com.microsoft", 1)]
        )


@pytest.mark.parametrize("seed", range(int(FIRST), int(LAST or int(FIRST) + 1)))
@pytest.mark.filterwarnings("ignore")
def test_random_nodes(seed):
    make, loaded, messages = Maker(seed), 0, []
    for name, domain, schema in OPERATORS:
        model = make.model(name, domain, schema)
        try:
            graph = load(model)
            verify(graph)
            loaded += 1
            feed = {}
            for value in graph.inputs:
                shape = [d if isinstance(d, int) else 2 for d in value.type.shape]
                text = value.type.dtype == "string"
                code = TensorProto.STRING if text else TensorProto.UINT8
                array = make.array(code, shape)
                feed[value.name] = array if text else array.astype(value.type.dtype)
            evaluate(graph, feed)
        except QcError as error:
            messages.append(str(error))
    assert loaded > 30
    assert [m for m in messages if "\n" in m or not m] == []
