"""Small integer networks for tests: a builder with random weights and sensible scales."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from qc.ir.graph import Graph, Value
from qc.ir.ops import activation as act
from qc.ir.ops import blocks, index, integer, logic, nn, norm, pool, resize, shape
from qc.ir.ops import elementwise as ew
from qc.ir.ops import reduce as red
from qc.ir.ops.base import Op
from qc.ir.ops.integer_resize import QResize
from qc.ir.ops.quantize import Dequantize, DynamicQuantize, Quantize
from qc.ir.types import TensorType
from qc.passes.integers.fixed_point import fixed_shares


@dataclass
class Net:
    """A graph under construction."""

    seed: int = 0
    graph: Graph = field(default_factory=Graph)
    bits: int = 8

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def codes(self, *shape: int, low: int = 0, high: int = 255) -> Value:
        """A new float input and its codes."""
        x = self.floats(*shape)
        return self.add(Quantize((0.02,), (128,), low=low, high=high), x)

    def floats(self, *shape: int, dtype: str = "float32") -> Value:
        """A new input."""
        return self.graph.input(f"x{len(self.graph.inputs)}", TensorType(dtype, shape))

    def add(self, op: Op, *ins: Value | None) -> Value:
        """Apply an op with one result."""
        return self.graph.add(op, list(ins)).output

    def const(self, array: np.ndarray) -> Value:
        """A constant."""
        return self.graph.constant(array)

    def out(self, *values: Value) -> None:
        """More outputs."""
        self.graph.outputs += values

    def real(self, value: Value) -> None:
        """One more output: the reals of codes."""
        self.out(self.add(Dequantize((0.05,), (120,)), value))

    def real_const(self, *shape: int) -> Value:
        """A constant of reals around zero."""
        return self.const((0.3 * self.rng.normal(size=shape)).astype(np.float32))

    def table(self) -> Value:
        """A random table of 256 codes."""
        return self.const(self.rng.integers(0, 256, 256).astype(np.uint8))

    def weights(self, channels: int, shape: Sequence[int]) -> list[Value]:
        """Weights of ``bits``, bias and multipliers that spread the results over the codes."""
        rng, depth, most = self.rng, int(np.prod(shape)) // channels, 2 ** (self.bits - 1) - 1
        w = rng.integers(-most, most + 1, shape).astype(np.int8)
        b = rng.integers(-3000, 3000, channels).astype(np.int32)
        m = ((0.3 + rng.random(channels)) * 1.27 / most / np.sqrt(depth)).astype(np.float32)
        return [self.const(w), self.const(b), self.const(m)]

    def conv(
        self,
        x: Value,
        outputs: int,
        kernel: Sequence[int] = (3, 3),
        stride: int = 1,
        pads: Sequence[int] | None = None,
        dilation: int = 1,
        group: int = 1,
        pad_value: int = 128,
        epilogue: integer.Epilogue | None = None,
        extra: Sequence[Value] = (),
    ) -> Value:
        """A ``QConv``; default padding keeps the size at stride 1."""
        n = len(kernel)
        half = [dilation * (k // 2) for k in kernel]
        op = integer.QConv(
            (stride,) * n, tuple(pads) if pads is not None else (*half, *half), (dilation,) * n,
            group, pad_value, epilogue or integer.Epilogue(zero_point=120),
        )  # fmt: skip
        shape = (outputs, x.shape[1] // group, *kernel)
        return self.add(op, x, *self.weights(outputs, shape), *extra)

    def dense(
        self, x: Value, outputs: int, epilogue: integer.Epilogue | None = None,
        extra: Sequence[Value] = (),
    ) -> Value:  # fmt: skip
        """A ``QMatMul`` with constant weights."""
        w, b, m = self.weights(outputs, (outputs, x.shape[-1]))
        transposed = self.const(np.ascontiguousarray(w.data.T))
        op = integer.QMatMul(epilogue=epilogue or integer.Epilogue(zero_point=120))
        return self.add(op, x, transposed, b, m, *extra)

    def sum(self, *values: Value) -> Value:
        """A ``QSum`` of codes whose zero is near 128."""
        n = len(values)
        multipliers = tuple(int(v) for v in self.rng.integers(60, 160, n))
        centre = sum(m * 128 for m in multipliers) - (128 << 8) - 128
        return self.add(integer.QSum(multipliers, -centre, 8), *values)

    def feed(self) -> dict[str, np.ndarray]:
        """Random inputs."""
        return {
            v.name: self.rng.normal(size=v.shape).astype(v.type.dtype) for v in self.graph.inputs
        }


E = integer.Epilogue
POOL = (128 << 15) + (1 << 14)


def convolutions(n: Net) -> None:
    """Strides, dilations, kernels, and readers that need different borders."""
    a = n.codes(1, 3, 17, 19)
    b = n.conv(a, 24, (3, 3), 2, (1, 1, 1, 1))
    n.real(b)
    n.real(n.conv(b, 40, (5, 5), 1, (2, 2, 2, 2)))
    n.real(n.conv(b, 16, (3, 3), 1, (2, 2, 2, 2), 2))
    n.real(n.conv(b, 16, (3, 3), 2, (0, 0, 1, 1)))
    n.real(n.conv(b, 10, pad_value=3))
    n.real(n.conv(b, 33, (1, 3)))


def depthwise(n: Net) -> None:
    """Depthwise and grouped convolutions."""
    b = n.codes(1, 32, 9, 10)
    c = n.conv(b, 32, group=32)
    n.real(c)
    n.real(n.conv(c, 32, (5, 5), 2, (2, 2, 2, 2), group=32))
    n.real(n.conv(c, 32, group=4))
    n.real(n.conv(c, 64, group=32))
    n.real(n.conv(n.codes(1, 3, 9, 9), 3, group=3))


def narrow(n: Net) -> None:
    """Weights of all widths, which are stored in as many bits."""
    x = n.codes(1, 32, 9, 10)
    for n.bits in range(2, 9):
        n.real(n.conv(x, 20))
        n.real(n.conv(x, 32, stride=1 + n.bits % 2, group=32))
        n.real(n.dense(n.codes(3, 37), 11))


def epilogues(n: Net) -> None:
    """Every kind of result of an accumulator."""
    d = n.codes(1, 32, 7, 9)
    residual = integer.Residual(150, 8, -100 * 100)
    n.real(
        n.conv(
            d, 32, (1, 1), epilogue=E(zero_point=100, residual=residual, low=3, high=250), extra=[d]
        )
    )
    n.real(n.conv(d, 32, (1, 1), epilogue=E(zero_point=100, table=True), extra=[n.table()]))
    n.out(n.conv(d, 20, (1, 1), epilogue=E(dtype="float32")))
    n.out(n.conv(d, 20, epilogue=E(dtype="int32")))
    f = n.add(shape.Flatten(1), n.conv(d, 20))
    n.real(n.dense(f, 10))
    n.out(n.dense(n.add(shape.Flatten(1), d), 33, E(dtype="float32")))
    c = n.conv(d, 10, (1, 1))
    pairs = n.add(shape.Transpose((0, 2, 1, 3, 4)), n.add(shape.Reshape((1, 2, 5, 7, 9)), c))
    rows = n.add(shape.Reshape((1, 10, 7, 9)), pairs)  # which lie row after row, not pixel by pixel
    added = E(zero_point=100, residual=residual, low=3)
    n.real(n.conv(rows, 10, (1, 1), epilogue=added, extra=[rows]))
    n.real(n.conv(c, 16, pad_value=0))  # for which the codes get a border
    n.real(n.conv(c, 10, (1, 1), epilogue=added, extra=[c]))


def batches(n: Net) -> None:
    """Several samples, and one-dimensional convolutions."""
    g = n.conv(n.codes(3, 16, 6, 6), 32)
    n.real(g)
    n.real(n.conv(g, 32, group=32))
    h = n.codes(2, 8, 21)
    n.real(n.conv(h, 16, (3,)))
    n.real(n.conv(n.conv(h, 32, (5,), 2), 32, (3,), group=32))
    x = n.codes(3, 4, 32)
    n.real(n.dense(n.dense(x, 24), 48))


def concatenations(n: Net) -> None:
    """Parts written into the result, parts that are copied, splits, a channel shuffle."""
    x = n.codes(1, 3, 8, 8)
    a = n.conv(x, 16)
    b = n.conv(x, 32)
    c = n.conv(b, 10)
    y = n.add(shape.Concat(1), a, b, c)
    n.real(y)
    n.real(n.conv(y, 16))
    n.real(n.conv(b, 16, (5, 5)))
    n.real(n.conv(n.add(shape.Concat(1), c, a), 16))
    n.real(n.add(shape.Concat(2), a, a))
    s = n.graph.add(shape.Split(1, (8, 8)), [a]).outputs
    n.real(n.conv(s[1], 16))
    n.real(n.sum(*s))
    n.real(n.conv(n.add(shape.Concat(1), s[0], n.conv(s[1], 8)), 16, (1, 1)))
    r = n.add(shape.Reshape((1, 2, 16, 8, 8)), b)
    t = n.add(shape.Transpose((0, 2, 1, 3, 4)), r)
    n.real(n.conv(n.add(shape.Reshape((1, 32, 8, 8)), t), 16))


def arithmetic(n: Net) -> None:
    """Sums, products and tables of codes."""
    x, y, w = n.codes(1, 16, 9, 9), n.codes(1, 16, 9, 9), n.codes(1, 16, 1, 1)
    n.real(n.sum(x, y))
    n.real(n.sum(x, y, w))
    n.real(n.sum(x))
    n.real(n.add(integer.QMul(100, 120, 0.01, 128), x, y))
    n.real(n.add(integer.QMul(100, 120, 0.01, 128, 5, 200), x, w))
    n.real(n.add(integer.QTable(), x, n.table()))
    n.real(n.add(ew.Clip(10, 200), x))


def wide_codes(n: Net) -> None:
    """Averages from and to 16 bits, whose products need 64."""
    x = n.add(Quantize((1e-4,), (30000,), dtype="uint16", high=65535), n.floats(1, 16, 9, 9))
    wide = {"in_zero_point": 30000, "constant": 20000 << 30, "shift": 30, "high": 65535}
    whole = integer.QAveragePool((9, 9), (1, 1), (0,) * 4, ((81, 1 << 24),), dtype="uint16", **wide)
    counts = ((9, (1 << 30) // 9),)
    part = integer.QAveragePool((3, 3), (3, 3), (0,) * 4, counts, dtype="uint16", **wide)
    n.real(n.add(whole, x))
    n.real(n.add(part, x))
    eight = {"in_zero_point": 30000, "constant": 100 << 30, "shift": 30}
    n.real(n.add(integer.QAveragePool((3, 3), (3, 3), (0,) * 4, ((9, 400000),), **eight), x))


def pools(n: Net) -> None:
    """Averages and maxima with padding, ceil mode and dilation."""
    x = n.codes(1, 16, 9, 9)
    average = integer.QAveragePool
    whole = average((9, 9), (1, 1), (0,) * 4, ((81, 400),), 120, POOL, 15)
    counts = ((4, 8192), (6, 5461), (9, 3641))
    n.real(n.add(whole, x))
    n.real(n.add(average((3, 3), (2, 2), (1,) * 4, counts, 120, POOL, 15), x))
    counts = ((4, 8192), (2, 16384), (1, 32768))
    n.real(n.add(average((2, 2), (2, 2), (0,) * 4, counts, 120, POOL, 15, ceil_mode=True), x))
    n.real(n.add(pool.MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), x))
    n.real(n.add(pool.MaxPool((3, 3), (2, 2), (0, 0, 0, 0), ceil_mode=True), x))
    n.real(n.add(pool.MaxPool((2, 2), (1, 1), (1, 1, 1, 1), (2, 2)), x))
    n.real(n.conv(n.add(pool.MaxPool((2, 2), (2, 2)), n.conv(x, 20)), 16))
    wide_codes(n)
    p = n.add(whole, n.conv(x, 48))
    n.out(n.dense(n.add(shape.Flatten(1), p), 10, E(dtype="float32")))


def movements(n: Net) -> None:
    """Ops that only move codes."""
    x = n.codes(1, 16, 9, 9)
    twice = resize.Resize(
        "nearest", scales=(1, 1, 2, 2), coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )  # fmt: skip
    ops = [
        twice, blocks.DepthToSpace(2), blocks.DepthToSpace(2, "CRD"), blocks.SpaceToDepth(3),
        index.Pad((0, 0, 1, 2, 0, 0, 2, 1), value=9),
        index.Pad((0, 0, 1, 2, 0, 0, 2, 1), "reflect"),
        index.Slice((1,), (9,), (2,), (2,)), index.Slice((-1,), (-(2**32),), (3,), (-1,)),
        shape.Tile((1, 2, 1, 2)), shape.Expand((2, 16, 9, 9)), shape.Transpose((0, 2, 3, 1)),
    ]  # fmt: skip
    for op in ops:
        n.real(n.add(op, x))
    n.real(n.add(index.Gather(1), x, n.const(np.array([3, -1, 5]))))
    n.real(n.add(index.Gather(2), x, n.const(np.array(4))))
    for picked in ([0, 2, 4], [6, 4, 2], [5], [7, 7, 7], [-1, 0, 1]):
        n.real(n.add(index.Gather(1), x, n.const(np.array(picked))))
    n.real(n.add(index.Gather(3), x, n.const(np.array([[1, 2], [3, 4]]))))
    zero = n.const(np.array(7, np.uint8).reshape(1, 1, 1, 1))
    n.real(n.add(integer.QPad((0, 0, 1, 1, 0, 0, 1, 1)), x, zero))
    linear = resize.Resize("linear", sizes=(1, 16, 13, 20))
    taps = []
    for axis, out in ((2, 13), (3, 20)):
        indices, weights = linear.taps(axis, 9, out)
        taps += [n.const(indices.astype(np.int32)), n.const(fixed_shares(weights, 11))]
    n.real(n.add(QResize((2, 3), 11), x, *taps))
    n.real(n.conv(n.add(QResize((3,), 11), n.conv(x, 20), *taps[2:]), 16))


def attention(n: Net) -> None:
    """Products of two activations and softmax of codes."""
    x = n.codes(2, 5, 32)

    def heads(t: Value) -> Value:
        return n.add(shape.Transpose((0, 2, 1, 3)), n.add(shape.Reshape((2, 5, 4, 8)), t))

    def table(step: float) -> Value:
        return n.const(np.round(np.exp(-np.arange(256) * step) * 2**31).astype(np.uint32))

    q, k, v = (n.dense(x, 32) for _ in range(3))
    keys = n.add(shape.Transpose((0, 1, 3, 2)), heads(k))
    scores = integer.QMatMul(120, 119, E("uint16", high=65535, zero_point=3000))
    zeros, factor = n.const(np.zeros(5, np.int32)), n.const(np.array([0.7], np.float32))
    p = n.add(
        integer.QSoftmax(-1),
        n.add(scores, heads(q), keys, zeros, factor),
        table(0.256),
        table(0.001),
    )
    n.out(p, n.add(integer.QSoftmax(1), x, table(1.0), table(0.01)))
    weighted = integer.QMatMul(0, 120, E(zero_point=128))
    zeros, factor = n.const(np.zeros(8, np.int32)), n.const(np.array([0.003], np.float32))
    o = n.add(weighted, n.add(Quantize((1 / 255,), (0,)), p), heads(v), zeros, factor)
    o = n.add(shape.Reshape((2, 5, 32)), n.add(shape.Transpose((0, 2, 1, 3)), o))
    n.real(o)
    residual = integer.Residual(150, 8, -100 * 100)
    n.real(n.dense(o, 48, E(zero_point=100, residual=residual), extra=[n.dense(o, 48)]))


def dynamic(n: Net) -> None:
    """Codes whose scale is known at run time."""
    codes = n.graph.add(DynamicQuantize(2), [n.floats(2, 5, 33)]).outputs
    n.out(*codes, n.dense(codes[0], 20, E(dtype="int32")))
    for axis in (1, 2):
        n.out(*n.graph.add(DynamicQuantize(axis), [n.floats(2, 3, 5, 5)]).outputs)


def float_arithmetic(n: Net) -> None:
    """Elementwise islands."""
    x, y, c = n.floats(1, 6, 7, 9), n.floats(1, 6, 7, 9), n.floats(1, 6, 1, 1)
    unary = [
        act.Relu(), act.LeakyRelu(), act.Elu(), act.Sigmoid(), act.HardSigmoid(), act.HardSwish(),
        act.Silu(), act.Tanh(), act.Softplus(), act.Mish(), act.Gelu(), act.Gelu("tanh"), act.Erf(),
        ew.Exp(), ew.Neg(), ew.Abs(), ew.Round(), ew.Clip(-0.5, 0.5), logic.IsNaN(),
    ]  # fmt: skip
    for op in unary:
        n.out(n.add(op, x))
    for op in (ew.Add(), ew.Sub(), ew.Mul(), ew.Div(), ew.Max(), logic.Greater()):
        n.out(n.add(op, x, y))
    n.out(n.add(ew.Mul(), x, c), n.add(ew.Where(), n.add(logic.Less(), x, y), x, c))
    half = n.floats(1, 4, 6, dtype="float16")
    wide = n.add(act.Relu(), n.add(ew.Cast("float32"), half))
    n.out(n.add(ew.Cast("float16"), wide))


def float_reductions(n: Net) -> None:
    """Reductions, pools, softmax, normalisation and interpolation of reals."""
    x = n.floats(1, 6, 7, 9)
    ops = [
        red.ReduceMean((2, 3)), red.ReduceSum((1,), False), red.ReduceMax((3,)),
        red.ReduceL2((2,)), red.ArgMax(1), norm.Softmax(1), norm.Softmax(-1), norm.LogSoftmax(2),
        pool.GlobalAveragePool(), pool.MaxPool((3, 3), (2, 2), (1,) * 4),
        pool.AveragePool((3, 3), (2, 2), (1,) * 4), resize.Resize("linear", scales=(1, 1, 2, 2)),
        resize.Resize("cubic", sizes=(1, 6, 5, 13)),
    ]  # fmt: skip
    for op in ops:
        n.out(n.add(op, x))
    t, scale = n.floats(2, 5, 24), n.real_const(24)
    n.out(
        n.add(norm.LayerNormalization(), t, scale, scale), n.add(norm.RMSNormalization(), t, scale)
    )
    picked = n.add(ew.Cast("int64"), n.add(ew.Clip(0, 3), n.floats(3)))
    n.out(n.add(index.Gather(1), t, picked))


def float_layers(n: Net) -> None:
    """Convolutions and products of reals."""
    x = n.floats(1, 6, 7, 9)
    v = n.add(nn.Conv((1, 1), (1, 1, 1, 1)), x, n.real_const(20, 6, 3, 3), n.real_const(20))
    n.out(v, n.add(nn.Conv((2, 2), (1, 1, 1, 1), (1, 1), 20), v, n.real_const(20, 1, 3, 3)))
    vectors = [n.real_const(20) for _ in range(3)]
    variance = n.const(n.rng.random(20).astype(np.float32) + 0.1)
    n.out(n.add(norm.BatchNormalization(), v, *vectors, variance))
    n.out(n.add(norm.InstanceNormalization(), v, *vectors[:2]))
    n.out(n.add(norm.GroupNormalization(4), v, *vectors[:2]))
    t = n.floats(2, 5, 24)
    n.out(n.add(nn.MatMul(), t, n.real_const(24, 10)))
    lengths = n.add(nn.MatMul(), t, n.real_const(24, 20))
    n.out(n.add(pool.GlobalAveragePool(), n.add(act.Relu(), lengths)), lengths)
    n.out(n.add(nn.MatMul(), t, n.add(shape.Transpose((0, 2, 1)), t)))
    f = n.add(shape.Flatten(1), x)
    n.out(n.add(nn.Gemm(trans_b=True), f, n.real_const(10, 378), n.real_const(10)))
    n.out(n.add(nn.Gemm(), t, n.real_const(t.shape[-1], 7), n.real_const(7)))
    n.out(n.add(nn.Gemm(), t, n.real_const(t.shape[-1], 7), n.real_const(t.shape[1], 1)))


Case = Callable[[Net], None]
LAYERS: dict[str, Case] = {
    f.__name__: f for f in (convolutions, depthwise, narrow, epilogues, batches)
}
OTHERS: dict[str, Case] = {
    f.__name__: f for f in (concatenations, arithmetic, pools, movements, attention, dynamic)
}
ISLANDS: dict[str, Case] = {
    f.__name__: f for f in (float_arithmetic, float_reductions, float_layers)
}
