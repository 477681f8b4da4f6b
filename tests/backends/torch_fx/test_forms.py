"""Every op as torch computes it: what the numpy reference says."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from qc.backends.torch_fx.convert import to_torch  # noqa: E402
from qc.backends.torch_fx.forms import FORMS  # noqa: E402
from qc.ir import Graph  # noqa: E402
from qc.ir.errors import BackendError  # noqa: E402
from qc.ir.evaluate import evaluate  # noqa: E402
from qc.ir.ops import OPS  # noqa: E402
from qc.ir.types import type_of  # noqa: E402

RNG = np.random.default_rng(0)


def f(*shape, low=None):
    x = RNG.normal(size=shape).astype(np.float32)
    return x if low is None else np.abs(x) + np.float32(low)


def i(*values, dtype=np.int64):
    return np.asarray(values, dtype)


X, Y, POSITIVE = f(2, 3, 4), f(2, 3, 4), f(2, 3, 4, low=0.1)
IMAGE = f(2, 4, 7, 6)
INTS = i([7, -7, 3], [-3, 1, 5])
BOOLS = np.array([[True, False, True], [False, False, True]])
UNSIGNED = np.array([1, 2, 200], np.uint8)
UNARY = (
    "Abs", "Asinh", "Atan", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "Identity", "IsNaN", "LeakyRelu", "Mish", "Neg", "Reciprocal",
    "Relu", "Round", "Selu", "Sigmoid", "Sign", "Silu", "Sin", "Sinh", "Softplus", "Softsign",
    "Tan", "Tanh", "Hardmax", "Softmax", "LogSoftmax", "LpNormalization", "IsInf", "Clip",
)  # fmt: skip
REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
PAIRS = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu", "Mod")
COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
CHANNELS = [f(4, low=0.5), f(4)]
SCAN = [f(2, 5, 4), f(2, 5, 4, low=0.1), -f(4, 3, low=0.1), f(2, 5, 3), f(2, 5, 3)]

CASES = [
    *((name, {}, [X]) for name in UNARY),
    *((name, {}, [X, Y]) for name in PAIRS),
    *((name, {}, [INTS, INTS.T.reshape(2, 3)]) for name in COMPARISONS),
    *((name, {"axes": (0, -1), "keepdims": False}, [POSITIVE]) for name in REDUCTIONS),
    *((name, {}, [POSITIVE]) for name in (*REDUCTIONS, "Log", "Sqrt")),
    *((name, {}, [X / 10]) for name in ("Acos", "Asin", "Atanh")),
    ("Acosh", {}, [POSITIVE + 1]),
    *((name, {}, [BOOLS, ~BOOLS[:1]]) for name in ("And", "Or", "Xor")),
    ("Not", {}, [BOOLS]),
    *((n, {}, [INTS, INTS[:1]]) for n in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    ("BitwiseNot", {}, [INTS]),
    ("BitShift", {"direction": "LEFT"}, [UNSIGNED, i(1, 2, 1, dtype=np.uint8)]),
    ("BitShift", {"direction": "RIGHT"}, [UNSIGNED, i(1, 2, 1, dtype=np.uint8)]),
    ("Div", {}, [INTS, i(2, -2, 3)]),
    ("Mod", {"fmod": True}, [X, Y]),
    ("Mod", {}, [INTS, i(4, -4, 3)]),
    ("Pow", {}, [POSITIVE, Y]),
    ("Pow", {}, [X, np.float32(2)]),
    ("Sub", {}, [np.float32(2), X]),
    ("Mul", {}, [np.float32(2), np.float32(3)]),
    ("ReduceSum", {"axes": (1,)}, [INTS.astype(np.int32)]),
    ("Sum", {}, [X, Y, POSITIVE]),
    ("Where", {}, [X > 0, X, Y]),
    ("Cast", {"to": "int32"}, [X * 3]),
    ("Cast", {"to": "bool"}, [INTS]),
    ("Clip", {"min": -0.5, "max": 0.5}, [X]),
    ("Clip", {"min": 2.0}, [INTS]),
    ("Gelu", {"approximate": "tanh"}, [X]),
    ("HardSigmoid", {"alpha": 1 / 6}, [X * 4]),
    ("Selu", {"alpha": 1.5, "gamma": 1.2}, [X]),
    ("ThresholdedRelu", {"alpha": 0.3}, [X]),
    ("IsInf", {"detect_negative": False}, [np.array([np.inf, -np.inf, 1], np.float32)]),
    # products, layers, pooling
    ("MatMul", {}, [X, f(4, 5)]),
    ("Gemm", {}, [X[0], f(4, 5), f(5)]),
    ("Gemm", {"trans_b": True}, [X[0], f(5, 4), f(5)]),
    ("Gemm", {"trans_b": True}, [X[0], f(5, 4)]),
    ("Gemm", {"trans_a": True, "alpha": 0.5, "beta": 2.0}, [X[0], f(3, 5), f(4, 1)]),
    ("Gemm", {"alpha": 0.5}, [X[0], f(4, 5)]),
    ("Gemm", {"trans_b": True}, [X, f(5, 4), f(5)]),
    ("Gemm", {"alpha": 0.5, "beta": 2.0}, [X, f(4, 5), f(3, 5)]),
    ("Gemm", {}, [X, f(4, 5)]),
    ("Einsum", {"equation": "abc,dc->abd"}, [X, f(5, 4)]),
    ("Conv", {"pads": (1, 1, 1, 1), "strides": (2, 1)}, [IMAGE, f(6, 4, 3, 3), f(6)]),
    ("Conv", {"pads": (0, 1, 1, 2), "dilations": (2, 1)}, [IMAGE, f(6, 4, 3, 3)]),
    ("Conv", {"group": 4}, [IMAGE, f(4, 1, 3, 3), f(4)]),
    ("Conv", {"strides": (2,), "pads": (1, 0), "dilations": (1,)}, [X, f(5, 3, 2)]),
    (
        "ConvTranspose",
        {"strides": (2, 2), "pads": (1, 1, 1, 1), "output_padding": (1, 0)},
        [IMAGE, f(4, 3, 3, 3), f(3)],
    ),
    (
        "ConvTranspose",
        {"strides": (2, 2), "pads": (0, 1, 1, 0), "output_padding": (2, 0)},
        [IMAGE, f(4, 3, 3, 3), f(3)],
    ),
    ("MaxPool", {"kernel": (3, 2), "strides": (2, 1), "pads": (1, 0, 1, 1)}, [IMAGE]),
    ("MaxPool", {"kernel": (2, 2), "strides": (2, 2), "ceil_mode": True}, [IMAGE]),
    ("MaxPool", {"kernel": (2, 2), "pads": (2, 2, 2, 2), "dilations": (2, 2)}, [IMAGE]),
    ("AveragePool", {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}, [IMAGE]),
    ("AveragePool", {"kernel": (3, 3), "pads": (0, 1, 1, 1)}, [IMAGE]),
    (
        "AveragePool",
        {"kernel": (3, 3), "pads": (0, 1, 1, 1), "count_include_pad": True},
        [IMAGE],
    ),
    ("LpPool", {"kernel": (2, 2), "pads": (0, 1, 0, 0)}, [IMAGE]),
    ("GlobalAveragePool", {}, [IMAGE]),
    ("GlobalMaxPool", {}, [IMAGE]),
    # normalisations
    ("BatchNormalization", {}, [IMAGE, *CHANNELS, f(4), f(4, low=0.5)]),
    ("InstanceNormalization", {}, [IMAGE, *CHANNELS]),
    ("GroupNormalization", {"num_groups": 2}, [IMAGE, *CHANNELS]),
    ("LayerNormalization", {}, [X, f(4), f(4)]),
    ("LayerNormalization", {"axis": 1}, [X, f(3, 4)]),
    ("LayerNormalization", {"axis": 1}, [X, f(4), f(3, 1)]),
    ("RMSNormalization", {}, [X, f(4)]),
    ("RMSNormalization", {"axis": 1}, [X, f(4)]),
    ("LRN", {"size": 2, "alpha": 0.5}, [IMAGE]),
    ("LRN", {"size": 3, "alpha": 0.5}, [IMAGE]),
    ("LpNormalization", {"axis": 1, "p": 1}, [X]),
    # shapes
    ("Reshape", {"shape": (0, -1)}, [X]),
    ("Flatten", {"axis": 1}, [X]),
    ("Flatten", {"axis": 2}, [X]),
    ("Flatten", {"axis": 3}, [X]),
    ("Transpose", {"perm": (2, 0, 1)}, [X]),
    ("Squeeze", {"axes": (0, -1)}, [f(1, 3, 1)]),
    ("Squeeze", {}, [f(1, 3, 1)]),
    ("Unsqueeze", {"axes": (0, -1)}, [X]),
    ("Concat", {"axis": 1}, [X, Y]),
    ("Split", {"axis": 2, "sizes": (1, 3)}, [X]),
    ("Expand", {"shape": (5, 1, 4)}, [f(3, 1)]),
    ("Tile", {"repeats": (2, 1, 3)}, [X]),
    ("Shape", {"start": 1}, [X]),
    ("Size", {}, [X]),
    ("ConstantOfShape", {"value": 2.0, "shape": (2, 3)}, []),
    ("Range", {}, [np.float32(1), np.float32(6), np.float32(2)]),
    ("DepthToSpace", {"blocksize": 2}, [IMAGE]),
    ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, [IMAGE]),
    ("SpaceToDepth", {"blocksize": 2}, [f(2, 3, 4, 6)]),
    ("Slice", {"starts": (1, -3), "ends": (9, -1), "axes": (1, 2)}, [X]),
    ("Slice", {"starts": (-1,), "ends": (-(2**31),), "axes": (1,), "steps": (-1,)}, [X]),
    ("Slice", {"starts": (-1,), "ends": (-9,), "axes": (2,), "steps": (-2,)}, [X]),
    ("Pad", {"pads": (0, 1, 0, 0, 0, 2), "value": 0.5}, [X]),
    ("Pad", {"pads": (0, -1, 0, 1, 0, 2)}, [X]),
    *(
        ("Pad", {"pads": (0, 1, 2, 0, 2, 1), "mode": mode}, [X])
        for mode in ("reflect", "edge", "wrap")
    ),
    # indices, sorting
    ("Gather", {"axis": 1}, [X, i([0, -1], [2, 1])]),
    ("Gather", {"axis": 1}, [X, i(-1).reshape(())]),
    ("Gather", {}, [X[0], i([0, 2], [2, 1])]),
    ("GatherElements", {"axis": 1}, [INTS, i([0, -1], [2, 1])]),
    ("GatherND", {}, [X, i([0, 1], [1, -1])]),
    ("GatherND", {"batch_dims": 1}, [X, i([0], [2])]),
    ("ScatterElements", {"axis": 1}, [X[0], i([0, -1], [2, 1]), f(2, 2)]),
    ("ScatterElements", {"axis": 1, "reduction": "add"}, [X[0], i([0, 0], [2, 1]), f(2, 2)]),
    ("ScatterND", {}, [X, i([0, 1], [1, -1]), f(2, 4)]),
    ("ScatterND", {"reduction": "add"}, [X, i([0, 1], [0, 1]), f(2, 4)]),
    ("OneHot", {"depth": 3, "axis": 0}, [i(0, -1, 1), np.array([0.5, 2], np.float32)]),
    ("NonZero", {}, [INTS - 1]),
    ("Trilu", {}, [X]),
    ("Trilu", {"upper": False, "k": 1}, [X]),
    ("ArgMax", {"axis": 1}, [INTS]),
    ("ArgMin", {"axis": 0, "keepdims": False}, [INTS]),
    ("ArgMax", {"axis": 1, "select_last_index": True}, [np.zeros((2, 3), np.float32)]),
    ("CumSum", {"axis": 1}, [X]),
    ("CumSum", {"axis": 1, "exclusive": True, "reverse": True}, [X]),
    *(
        ("SelectiveScan", {"softplus": flag, "reverse": flag}, [*SCAN, *rest])
        for flag in (False, True)
        for rest in (
            [],
            [f(4), None, f(4)],
            [None, f(2, 5, 4), None, f(2, 4, 3)],
            [None, f(2, 5, 4), None, None, f(4)],
        )
    ),
    ("Hadamard", {}, [X]),
    ("Hadamard", {}, [f(2, 3, 24)]),
    ("TopK", {"k": 2}, [X]),
    ("TopK", {"k": 2, "axis": 1, "largest": False}, [i([3, 1, 1], [2, 2, 0])]),
    # interpolation
    *(
        ("Resize", {"scales": (1.0, 1.0, 2.0, 1.5), "mode": mode}, [IMAGE])
        for mode in ("nearest", "linear", "cubic")
    ),
    *(
        (
            "Resize",
            {
                "sizes": (-1, -1, 9, 5),
                "mode": mode,
                "coordinate_transformation_mode": where,
                "nearest_mode": "floor",
            },
            [IMAGE],
        )
        for mode in ("nearest", "linear")
        for where in ("asymmetric", "align_corners", "pytorch_half_pixel")
    ),
    ("Resize", {"scales": (1.0, 1.0, 0.5, 0.5), "mode": "linear", "antialias": True}, [IMAGE]),
]


def graph_of(name, attributes, arrays, constant):
    """A graph of one op; operands from ``constant`` on are constants."""
    graph = Graph("test")
    made = [
        None
        if a is None
        else graph.constant(np.asarray(a), f"c{k}")
        if k >= constant
        else graph.input(f"x.{k}", type_of(np.asarray(a)))
        for k, a in enumerate(arrays)
    ]
    graph.outputs = list(graph.add(OPS[name](**attributes), made).outputs)
    return graph


@pytest.mark.parametrize("constant", [1, 9], ids=["constants", "inputs"])
@pytest.mark.parametrize(
    ("name", "attributes", "arrays"), CASES, ids=[f"{c[0]}-{k}" for k, c in enumerate(CASES)]
)
def test_op(name, attributes, arrays, constant):
    if name == "Range" and constant > 1:
        pytest.skip("its ends are constants")
    graph = graph_of(name, attributes, arrays, 0 if name == "Range" else constant)
    given = [a for a in arrays if a is not None]
    feed = {v.name: np.asarray(a) for v, a in zip(graph.inputs, given, strict=False)}
    want = list(evaluate(graph, feed).values())
    with torch.no_grad():
        got = to_torch(graph)(*map(torch.from_numpy, map(np.array, feed.values())))
    got = got if isinstance(got, tuple) else (got,)
    for tensor, array in zip(got, want, strict=True):
        assert tensor.numpy().dtype == array.dtype
        assert tuple(tensor.shape) == array.shape
        np.testing.assert_allclose(tensor.numpy(), array, rtol=2e-5, atol=2e-6)


WITHOUT = {
    "BitCast", "CachedAttention", "Col2Im", "Compress", "ConvInteger", "CroppedResize", "CumProd",
    "DFT", "Decode", "DeformConv", "Det", "Encode", "EyeLike", "GRU", "GridSample", "If", "LSTM",
    "Late", "Loop", "MatMulInteger", "MaxPoolIndices", "MaxUnpool", "MelWeightMatrix",
    "NonMaxSuppression", "Opaque", "RNN", "RegexFullMatch", "ReverseSequence", "RoiAlign", "STFT",
    "Scan", "StringConcat", "StringNormalizer", "StringSplit", "TensorScatter", "Unique",
}  # fmt: skip
"""Ops that ``to_torch`` refuses by name."""


def test_every_form_is_tested_and_every_float_op_has_one():
    assert set(FORMS) == {name for name, _, _ in CASES}
    integer = {n for n in OPS if n.startswith(("Q", "Dequantize", "Dynamic"))}
    assert set(OPS) - set(FORMS) - integer == WITHOUT


def test_ops_without_a_form_are_all_named():
    graph = Graph("test")
    x = graph.input("x", type_of(f(2, 3)))
    q = graph.add(OPS["Quantize"](scale=(0.1,), zero_point=(0,)), [x], names=["codes"]).output
    graph.outputs = [graph.add(OPS["Dequantize"](scale=(0.1,), zero_point=(0,)), [q]).output]
    with pytest.raises(BackendError, match=r"2 nodes have no form in torch.*'codes' Quantize; "):
        to_torch(graph)


@pytest.mark.parametrize(
    ("name", "attributes", "arrays", "why"),
    [
        ("AveragePool", {"kernel": (2, 2), "dilations": (2, 2)}, [IMAGE], "dilations"),
        ("ScatterND", {"reduction": "max"}, [X, i([0, 1]), f(1, 4)], "reduction 'max'"),
        ("Tile", {}, [X, i(1, 1, 2)], "its repeats are not known"),
    ],
)
def test_what_torch_cannot_say_is_refused(name, attributes, arrays, why):
    with pytest.raises(BackendError, match=why):
        to_torch(graph_of(name, attributes, arrays, 9))
