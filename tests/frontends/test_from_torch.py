"""The PyTorch reader: every rule against torch itself, names, ties, symbols, what it refuses."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from qc.frontends import from_torch  # noqa: E402
from qc.frontends.torch_program import export  # noqa: E402
from qc.frontends.torch_rules import RULES  # noqa: E402
from qc.ir.bind import bind  # noqa: E402
from qc.ir.errors import FrontendError  # noqa: E402
from qc.ir.evaluate import evaluate  # noqa: E402
from qc.ir.verify import verify  # noqa: E402

TOLERANCE = 1e-5


class Functions(nn.Module):
    """Many functions of the same arguments, each an output."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def forward(self, *args):
        return {name: f(*args) for name, f in self.functions.items()}


def imported(module, inputs, **options):
    program = torch.export.export(module, inputs, **options) if options else export(module, inputs)
    graph = from_torch.load(program)
    verify(graph)
    return graph


def feed(graph, inputs):
    return {v.name: a.numpy() for v, a in zip(graph.inputs, inputs, strict=True)}


def assert_same(got, want, name):
    want = want.detach().numpy()
    assert got.shape == want.shape, name
    assert got.dtype == want.dtype, name
    if want.dtype.kind == "f":
        finite = np.isfinite(want)
        assert np.array_equal(np.isfinite(got), finite), name
        scale = np.abs(want[finite]).max(initial=1e-6)
        assert np.abs(got[finite] - want[finite]).max(initial=0) <= TOLERANCE * scale, name
        assert np.array_equal(got[~finite], want[~finite]), name
    else:
        assert np.array_equal(got, want), name


def same(functions, *inputs):
    """The graph of ``functions``, whose outputs are what torch gives."""
    module = functions if isinstance(functions, nn.Module) else Functions(functions)
    graph = imported(module, inputs)
    got = evaluate(graph, feed(graph, inputs))
    with torch.no_grad():
        want = module(*inputs)
    want = want if isinstance(want, dict) else {"output": want}
    assert sorted(got) == sorted(want)
    for name, array in want.items():
        assert_same(got[name], array, name)
    return graph


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


X, Y = normal(2, 3, 4), normal(2, 3, 4).flip(0) + 0.25
POSITIVE = X.abs() + 0.1
INTS = torch.tensor([[7, -7, 3], [-3, 0, 5]])
BOOLS = torch.tensor([[True, False, True], [False, False, True]])
IMAGE = normal(2, 4, 7, 6)


# -- rules ---------------------------------------------------------------------------------------

UNARY = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "erf", "exp",
    "exp2", "expm1", "floor", "isinf", "isnan", "log", "log10", "log1p", "log2", "logical_not",
    "neg", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "square",
    "tan", "tanh", "trunc",
)  # fmt: skip


def test_functions_of_one_number():
    domains = {"acosh": POSITIVE + 1, "acos": X / 10, "asin": X / 10, "atanh": X / 10}
    functions = {}
    for name in UNARY:
        shift = domains.get(name, POSITIVE if "log" in name or "sqrt" in name else X)
        function = getattr(torch, name)
        functions[name] = lambda x, f=function, at=shift: f(x * 0 + at)
    same(functions, X)


def test_logarithms_and_exponentials_near_zero():
    tiny = torch.tensor([1e-7, -1e-6, 1e-3, 0.4, 0.6, 3.0, 80.0])
    graph = imported(Functions({"a": torch.log1p, "b": torch.expm1}), (tiny,))
    got = evaluate(graph, feed(graph, [tiny]))
    np.testing.assert_allclose(got["a"], torch.log1p(tiny).numpy(), rtol=1e-6)
    np.testing.assert_allclose(got["b"], torch.expm1(tiny).numpy(), rtol=1e-6)


def test_arithmetic():
    same(
        {
            "add": lambda x, y: x + y,
            "alpha": lambda x, y: torch.add(x, y, alpha=0.5),
            "number": lambda x, y: x + 2,
            "sub": lambda x, y: torch.sub(x, y, alpha=3),
            "rsub": lambda x, y: torch.rsub(x, y, alpha=3),
            "from": lambda x, y: 2 - x,
            "mul": lambda x, y: x * y * 3.0,
            "div": lambda x, y: x / y / 7,
            "down": lambda x, y: torch.div(x, y, rounding_mode="floor"),
            "to_zero": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
            "remainder": lambda x, y: torch.remainder(x, y),
            "remainder_number": lambda x, y: x % -0.7,
            "fmod": lambda x, y: torch.fmod(x, 0.7),
            "pow2": lambda x, y: x**2,
            "pow3": lambda x, y: x**3,
            "pow1": lambda x, y: x**1 + 0,
            "root": lambda x, y: x.abs() ** 0.5,
            "reciprocal_root": lambda x, y: (x.abs() + 1) ** -0.5,
            "inverse": lambda x, y: y**-1,
            "pow": lambda x, y: x.abs() ** y,
            "power_of": lambda x, y: 2.0**x,
            "max": lambda x, y: torch.maximum(x, y),
            "min": lambda x, y: torch.minimum(x, y),
            "clamp": lambda x, y: x.clamp(-0.5, 0.5),
            "clamp_low": lambda x, y: x.clamp(min=0.1),
            "clamp_tensor": lambda x, y: torch.clamp(x, y - 1, y.abs()),
            "addcmul": lambda x, y: torch.addcmul(x, x, y, value=0.3),
            "addcdiv": lambda x, y: torch.addcdiv(x, x, y, value=0.3),
            "lerp": lambda x, y: torch.lerp(x, y, 0.3),
            "where": lambda x, y: torch.where(x > y, x, 0.5),
            "fill": lambda x, y: x.masked_fill(x > 0, -1.5),
            "fill_tensor": lambda x, y: x.masked_fill(x > 0, y.sum()),
        },
        X, Y,
    )  # fmt: skip


def test_integers_and_bools():
    same(
        {
            "truncated": lambda i, b: torch.div(i, 2, rounding_mode="trunc"),
            "floored": lambda i, b: i // 2,
            "divided": lambda i, b: i / 2,
            "remainder": lambda i, b: i % 4,
            "fmod": lambda i, b: torch.fmod(i, 4),
            "scaled": lambda i, b: i * 0.5,
            "root": lambda i, b: (i * i).sqrt(),
            "trunc": lambda i, b: torch.trunc(i),
            "power": lambda i, b: i**2,
            "counted": lambda i, b: b.sum(),
            "masked": lambda i, b: i * b,
            "and": lambda i, b: (i > 0) & b,
            "or": lambda i, b: (i < 0) | b,
            "xor": lambda i, b: (i >= 0) ^ b,
            "bits": lambda i, b: i & 6,
            "bits_or": lambda i, b: i | 6,
            "bits_xor": lambda i, b: i ^ 6,
            "not": lambda i, b: ~b,
            "bits_not": lambda i, b: ~i,
            "logical": lambda i, b: torch.logical_and(i, b),
            "either": lambda i, b: torch.logical_or(i, b),
            "unlike": lambda i, b: torch.logical_xor(i, b),
            "unequal": lambda i, b: i != 3,
            "equal": lambda i, b: i == 3.0,
            "at_most": lambda i, b: i <= 2.5,
            "cast": lambda i, b: i.float() + b.to(torch.float32),
            "to_bool": lambda i, b: i.bool(),
            "any": lambda i, b: b.any(),
            "any_dim": lambda i, b: b.any(1),
            "all": lambda i, b: b.all(0, keepdim=True),
            "all_of": lambda i, b: (i == i).all(),
            "double": lambda i, b: i.double() * 1e-12 + 1 > 1.0,
            "scalar": lambda i, b: i.to(torch.int8) + torch.tensor(1) > 2,
            "narrow": lambda i, b: i.to(torch.int32) + 1,
            "wide": lambda i, b: i.to(torch.int8) + i.to(torch.int32),
        },
        INTS, BOOLS,
    )  # fmt: skip


def test_activations():
    same(
        {
            "relu": F.relu,
            "relu6": F.relu6,
            "leaky": lambda x: F.leaky_relu(x, 0.2),
            "elu": lambda x: F.elu(x, 0.7),
            "selu": F.selu,
            "celu": lambda x: F.celu(x, 0.5),
            "gelu": F.gelu,
            "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
            "silu": F.silu,
            "mish": F.mish,
            "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.7),
            "hardswish": lambda x: F.hardswish(4 * x),
            "hardsigmoid": lambda x: F.hardsigmoid(4 * x),
            "softplus": F.softplus,
            "softplus_beta": lambda x: F.softplus(x, beta=2.0, threshold=1.0),
            "softsign": F.softsign,
            "logsigmoid": F.logsigmoid,
            "tanhshrink": F.tanhshrink,
            "hardshrink": lambda x: F.hardshrink(x, 0.3),
            "softshrink": lambda x: F.softshrink(x, 0.3),
            "threshold": lambda x: F.threshold(x, 0.1, 20.0),
            "glu": lambda x: F.glu(x, 2),
            "prelu": lambda x: F.prelu(x, torch.tensor([0.1, 0.2, 0.3])),
            "prelu_one": lambda x: F.prelu(x, torch.tensor([0.1])),
            "softmax": lambda x: F.softmax(x, -1),
            "log_softmax": lambda x: F.log_softmax(x, 1),
            "softmin": lambda x: F.softmin(x, 0),
        },
        X,
    )


def test_reductions():
    same(
        {
            "sum": lambda x: x.sum(),
            "sum_axis": lambda x: x.sum(1),
            "sum_axes": lambda x: x.sum((0, -1), keepdim=True),
            "mean": lambda x: x.mean(),
            "mean_axes": lambda x: x.mean((0, 2)),
            "amax": lambda x: x.amax(1),
            "amin": lambda x: x.amin((0, 1), keepdim=True),
            "max": lambda x: x.max(),
            "min": lambda x: x.min(),
            "max_values": lambda x: x.max(1).values,
            "max_indices": lambda x: x.max(1).indices,
            "min_both": lambda x: x.min(-1).values + x.min(-1).indices,
            "argmax": lambda x: x.argmax(),
            "argmax_axis": lambda x: x.argmax(1, keepdim=True),
            "argmin": lambda x: x.argmin(-1),
            "prod": lambda x: x.prod(),
            "prod_axis": lambda x: x.prod(1),
            "var": lambda x: x.var(),
            "var_population": lambda x: x.var(1, unbiased=False),
            "std": lambda x: x.std(-1, keepdim=True),
            "var_mean": lambda x: sum(torch.var_mean(x, 1)),
            "norm": lambda x: x.norm(),
            "norm_axis": lambda x: torch.linalg.vector_norm(x, dim=1),
            "norm1": lambda x: torch.linalg.vector_norm(x, 1, dim=(0, 1)),
            "norm_inf": lambda x: torch.linalg.vector_norm(x, float("inf"), dim=2),
            "logsumexp": lambda x: x.logsumexp(1),
            "cumsum": lambda x: x.cumsum(1),
            "normalized": lambda x: F.normalize(x, dim=1),
            "topk": lambda x: x.topk(2, 1).values,
            "least": lambda x: x.topk(2, -1, largest=False).indices,
            "sorted": lambda x: x.sort(1, descending=True).values,
            "argsort": lambda x: x.argsort(-1),
        },
        X,
    )


def test_shapes():
    same(
        {
            "view": lambda x: x.view(2, -1),
            "reshape": lambda x: x.transpose(0, 1).reshape(-1),
            "flatten": lambda x: x.flatten(1),
            "unflatten": lambda x: x.unflatten(2, (2, 2)),
            "permute": lambda x: x.permute(2, 0, 1),
            "t": lambda x: x[0].t(),
            "movedim": lambda x: x.movedim(0, -1),
            "expand": lambda x: x[:1].expand(3, -1, -1),
            "squeeze": lambda x: x[:, :1].squeeze(),
            "squeeze_dim": lambda x: x[:, :1].squeeze(1),
            "unsqueeze": lambda x: x.unsqueeze(-1),
            "cat": lambda x: torch.cat([x, x + 1], -1),
            "stack": lambda x: torch.stack([x, x + 1], 1),
            "chunk": lambda x: x.chunk(2, 2)[1],
            "split": lambda x: x.split(2, 1)[1],
            "split_sizes": lambda x: x.split([1, 3], 2)[1],
            "unbind": lambda x: x.unbind(1)[2],
            "select": lambda x: x[:, -1],
            "slice": lambda x: x[:, 1:, ::2],
            "slice_from_end": lambda x: x[..., -3:-1],
            "narrow": lambda x: x.narrow(2, 1, 2),
            "flip": lambda x: x.flip(0, 2),
            "roll": lambda x: x.roll((1, -1), (0, 2)),
            "roll_flat": lambda x: x.roll(5),
            "repeat": lambda x: x.repeat(2, 1, 1, 3),
            "tile": lambda x: x.tile(2),
            "interleave": lambda x: x.repeat_interleave(2, dim=1),
            "tril": lambda x: x.tril(),
            "triu": lambda x: x.triu(1),
            "diagonal": lambda x: x.diagonal(1, 1, 2),
            "diagonal_below": lambda x: x.diagonal(-1, 0, 2),
            "pad": lambda x: F.pad(x, (1, 2, 0, 1), value=0.5),
            "crop": lambda x: F.pad(x, (-1, 0)),
            "reflect": lambda x: F.pad(x, (1, 2), mode="reflect"),
            "replicate": lambda x: F.pad(x, (1, 2), mode="replicate"),
            "einsum": lambda x: torch.einsum("bij,bkj->bik", x, x),
            "meshgrid": lambda x: torch.meshgrid(x[0, 0], x[0, :, 0], indexing="ij")[0],
            "dropout": lambda x: F.dropout(x, 0.5, training=False),
            "contiguous": lambda x: x.transpose(0, 1).contiguous(),
        },
        X,
    )


def test_indices():
    rows, columns = torch.tensor([1, 0, 1]), torch.tensor([2, 1, 0])
    same(
        {
            "list": lambda x, i: x[:, [2, 0]],
            "rows": lambda x, i: x[i[:, 0] % 2],
            "pairs": lambda x, i: x[rows, columns],
            "later": lambda x, i: x[:, columns, i[:, 1]],
            "broadcast": lambda x, i: x[:, rows[:, None], columns],
            "index_select": lambda x, i: x.index_select(2, columns),
            "gather": lambda x, i: x[0].gather(0, i),
            "scatter": lambda x, i: x[0].scatter(0, i, x[1][:, :2]),
            "scatter_number": lambda x, i: x[0].scatter(1, i, 7.0),
            "scatter_add": lambda x, i: x[0].scatter_add(0, i, x[1][:, :2]),
            "embedding": lambda x, i: F.embedding(i, x[0]),
            "one_hot": lambda x, i: F.one_hot(i, 3),
            "put": lambda x, i: x.index_put((rows, columns), x[0, :, :4]),
            "put_number": lambda x, i: x.index_put((rows,), torch.tensor(2.0)),
            "accumulated": lambda x, i: x.index_put((rows,), x[0], accumulate=True),
        },
        X, torch.tensor([[1, 0], [2, 1], [0, 2]]),
    )  # fmt: skip


def changed(x, place):
    y = x.clone()
    y[place] = 0.5
    return y


def test_assignment():
    same(
        {
            "row": lambda x: changed(x, (0,)),
            "column": lambda x: changed(x, (slice(None), 1)),
            "part": lambda x: changed(x, (slice(None), slice(1, None), slice(0, 2))),
            "steps": lambda x: changed(x, (slice(None), slice(None, None, 2))),
            "last": lambda x: changed(x, (-1,)),
            "in_place": lambda x: (x + 1).mul_(2).add_(1).relu_(),
            "copy": lambda x: (x + 0).copy_(x[:, :1]),
        },
        X,
    )


def test_creation():
    same(
        {
            "arange": lambda x: x + torch.arange(4),
            "arange_from": lambda x: x + torch.arange(1, 9, 2, dtype=torch.float32),
            "zeros": lambda x: x + torch.zeros(3, 4),
            "ones": lambda x: x + torch.ones(4, dtype=torch.int64),
            "full": lambda x: x + torch.full((2, 1, 1), 2.5),
            "full_like": lambda x: torch.full_like(x, 3),
            "zeros_like": lambda x: torch.zeros_like(x, dtype=torch.int64),
            "new": lambda x: x.new_full((3,), 2) + x.new_zeros(3) + x.new_ones(3),
            "linspace": lambda x: x + torch.linspace(0, 1, 4),
            "eye": lambda x: x[:, :, :3] + torch.eye(3),
            "tensor": lambda x: x * torch.tensor([1.0, 2.0, 3.0, 4.0]),
        },
        X,
    )


def test_products():
    square, vector = normal(4, 5), normal(4)
    same(
        {
            "matmul": lambda x: x @ square,
            "vector": lambda x: x @ vector,
            "batches": lambda x: x @ x.transpose(1, 2),
            "mm": lambda x: torch.mm(x[0], square),
            "addmm": lambda x: torch.addmm(square[0], x[0], square, alpha=0.5, beta=2),
            "bmm": lambda x: torch.bmm(x, x.transpose(1, 2)),
            "baddbmm": lambda x: torch.baddbmm(x[:, :, :3], x, x.mT, alpha=0.5, beta=3),
            "linear": lambda x: F.linear(x, square.t(), square[0]),
            "linear_matrix": lambda x: F.linear(x[0], square.t()),
            "linear_vector": lambda x: F.linear(x[0, 0], square.t(), square[1]),
            "dot": lambda x: torch.dot(x[0, 0], vector),
            "outer": lambda x: torch.outer(x[0, 0], vector),
            "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
            "causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
            "scaled": lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.3),
            "masked": lambda x: F.scaled_dot_product_attention(x, x, x, x @ x.mT > 0),
            "biased": lambda x: F.scaled_dot_product_attention(x, x, x, x @ x.mT),
        },
        X,
    )


def test_shared_keys():
    q, k = normal(1, 4, 3, 8), normal(1, 2, 3, 8)
    attention = {"y": lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True)}
    same(attention, q, k)


def test_convolutions_and_pooling():
    w, deep = normal(6, 4, 3, 3), normal(4, 1, 3, 3)
    line = normal(6, 4, 3)
    same(
        {
            "conv": lambda x: F.conv2d(x, w, torch.ones(6), 2, 1),
            "dilated": lambda x: F.conv2d(x, w, dilation=2, padding=(2, 1)),
            "same": lambda x: F.conv2d(x, w, padding="same"),
            "groups": lambda x: F.conv2d(x, deep, groups=4),
            "alone": lambda x: F.conv2d(x[0], w),
            "conv1d": lambda x: F.conv1d(x[:, :, 0], line, padding=1),
            "transposed": lambda x: F.conv_transpose2d(
                x, w.transpose(0, 1), stride=2, padding=1, output_padding=1
            ),
            "max": lambda x: F.max_pool2d(x, 2),
            "max_padded": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
            "max1d": lambda x: F.max_pool1d(x[:, :, 0], 2),
            "average": lambda x: F.avg_pool2d(x, (3, 2), 2, 1),
            "average_inside": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
            "average_ceil": lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
            "divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
            "average1d": lambda x: F.avg_pool1d(x[:, :, 0], 2),
            "adaptive": lambda x: F.adaptive_avg_pool2d(x, 1),
            "adaptive_even": lambda x: F.adaptive_avg_pool2d(x[..., :6, :], (3, 2)),
            "adaptive_uneven": lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
            "adaptive1d": lambda x: F.adaptive_avg_pool1d(x[:, :, 0], 4),
            "adaptive_max": lambda x: F.adaptive_max_pool2d(x, 1),
            "adaptive_max_even": lambda x: F.adaptive_max_pool2d(x[..., :6, :], (3, 2)),
            "shuffle": lambda x: F.pixel_shuffle(x, 2),
            "unshuffle": lambda x: F.pixel_unshuffle(x[..., :6, :], 2),
            "unfold": lambda x: F.unfold(x, 2),
        },
        IMAGE,
    )


def test_volumes():
    video, w = normal(1, 2, 4, 5, 6), normal(3, 2, 2, 3, 3)
    same(
        {
            "conv": lambda x: F.conv3d(x, w, padding=1),
            "max": lambda x: F.max_pool3d(x, 2),
            "average": lambda x: F.avg_pool3d(x, 2),
            "adaptive": lambda x: F.adaptive_avg_pool3d(x, (2, 5, 3)),
            "trilinear": lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"),
        },
        video,
    )


def test_interpolation():
    same(
        {
            "nearest": lambda x: F.interpolate(x, scale_factor=2),
            "nearest_size": lambda x: F.interpolate(x, (9, 5)),
            "exact": lambda x: F.interpolate(x, (9, 5), mode="nearest-exact"),
            "bilinear": lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"),
            "aligned": lambda x: F.interpolate(x, (9, 5), mode="bilinear", align_corners=True),
            "doubled": lambda x: F.interpolate(
                x, scale_factor=2, mode="bilinear", align_corners=True
            ),
            "bicubic": lambda x: F.interpolate(x, (9, 5), mode="bicubic"),
            "linear": lambda x: F.interpolate(x[:, :, 0], 11, mode="linear"),
        },
        IMAGE,
    )


def test_normalisations():
    statistics = torch.rand(4) + 0.5, torch.rand(4) + 0.5
    scale, shift = torch.rand(4), torch.rand(4)
    same(
        {
            "batch": lambda x: F.batch_norm(x, *statistics, scale, shift),
            "batch_plain": lambda x: F.batch_norm(x, *statistics, eps=1e-3),
            "instance": lambda x: F.instance_norm(x, weight=scale, bias=shift),
            "group": lambda x: F.group_norm(x, 2, scale, shift),
            "group_plain": lambda x: F.group_norm(x, 4),
            "layer": lambda x: F.layer_norm(x, (7, 6), torch.ones(7, 6) * 2, torch.ones(7, 6)),
            "layer_plain": lambda x: F.layer_norm(x, (6,)),
            "rms": lambda x: F.rms_norm(x, (6,), torch.full((6,), 2.0), 1e-5),
            "rms_plain": lambda x: F.rms_norm(x, (6,)),
            "response": lambda x: F.local_response_norm(x, 2),
        },
        IMAGE,
    )


def test_recurrent_layers_are_unrolled():
    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.gru = nn.LSTM(4, 3, batch_first=True), nn.GRU(3, 2)

        def forward(self, x):
            y, (_, c) = self.lstm(x)
            return {"gru": self.gru(y.transpose(0, 1))[0], "cell": c}

    same(Layers(), X)


def test_a_program_that_is_decomposed_already():
    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.group, self.head = nn.LayerNorm(4), nn.GroupNorm(1, 3), nn.Linear(4, 5)

        def forward(self, x):
            return F.silu(self.head(self.group(self.norm(x)))).softmax(-1)

    module = Layers().eval()
    program = export(module, (X,)).run_decompositions()
    graph = from_torch.load(program)
    assert {"LayerNormalization", "GroupNormalization"} <= {n.op.name for n in graph.nodes}
    assert_same(evaluate(graph, {"x": X.numpy()})["output"], module(X), "output")


# -- names, ties, types --------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)
        self.head.weight = self.embed.weight
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.register_buffer("scale", torch.full((4,), 2.0))
        self.register_buffer("shift", torch.full((4,), 0.5), persistent=False)

    def forward(self, input_ids, mask=None):
        x = self.body(self.embed(input_ids)) * self.scale + self.shift
        return {"logits": self.head(x), "hidden": (x, x.relu())}


def test_names_are_those_of_the_module():
    graph = imported(Tied(), (torch.tensor([[1, 2]]),))
    assert graph.name == "Tied"
    assert [v.name for v in graph.inputs] == ["input_ids"]
    assert [v.name for v in graph.outputs] == ["logits", "hidden_0", "hidden_1"]
    constants = {v.name for v in graph.constants}
    assert {"embed.weight", "body.0.weight", "body.0.bias", "scale", "shift"} <= constants
    assert "head.weight" not in constants
    places = {n.op.name: n.name for n in graph.nodes}
    assert places["Gather"] == "embed"
    assert places["MatMul"] in ("body.0", "head")
    assert {n.name for n in graph.nodes} >= {"embed", "body.0", "body.1", "head", "mul", "add"}


def test_a_tied_weight_is_one_constant():
    graph = imported(Tied(), (torch.tensor([[1, 2]]),))
    assert sorted(u.op.name for u in graph["embed.weight"].uses) == ["Gather", "Transpose"]


def test_constants_are_copies():
    module = Tied()
    graph = imported(module, (torch.tensor([[1, 2]]),))
    before = graph["embed.weight"].data.copy()
    with torch.no_grad():
        module.embed.weight.zero_()
    assert np.array_equal(graph["embed.weight"].data, before)


def test_an_output_may_be_an_input_or_given_twice():
    class Echo(nn.Module):
        def forward(self, x):
            y = x + 1
            return x, y, y

    graph = imported(Echo(), (X,))
    assert [v.name for v in graph.outputs] == ["output_0", "output_1", "output_2"]
    got = evaluate(graph, {"x": X.numpy()})
    assert np.array_equal(got["output_0"], X.numpy())
    assert np.array_equal(got["output_1"], got["output_2"])


def test_an_output_that_is_called_like_an_input():
    graph = imported(Functions({"x": lambda x: x + 1}), (X,))
    names = [v.name for v in (*graph.inputs, *graph.outputs)]
    assert len(set(names)) == 2


@pytest.mark.parametrize(("half", "boundary"), [("float16", "float16"), ("bfloat16", "float32")])
def test_half_precision_is_computed_in_float32(half, boundary):
    dtype = getattr(torch, half)
    module = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.LayerNorm(5)).to(dtype)
    graph = imported(module, (X.to(dtype),))
    assert [v.type.dtype for v in (*graph.inputs, *graph.outputs)] == [boundary, boundary]
    assert graph["0.weight"].type.dtype == "float32"
    name = graph.inputs[0].name
    got = evaluate(graph, {name: X.to(dtype).float().numpy().astype(boundary)})["output"]
    want = module.float()(X.to(dtype).float()).detach().numpy()
    assert np.abs(got.astype(np.float32) - want).max() < (2e-3 if boundary == "float16" else 1e-5)


def test_arithmetic_on_symbolic_dimensions():
    class Halves(nn.Module):
        def forward(self, x):
            n = x.shape[1]
            a = x[:, : n // 2].sum(1)
            torch._check(n < 100)
            return a + x.reshape(-1).mean() * (n - 1) + x.new_ones(max(n - 1, 1), 4)[0]

    module, half = Halves(), torch.export.Dim("half", min=3, max=32)
    graph = imported(module, (normal(2, 8, 4),), dynamic_shapes=({1: 2 * half},))
    assert graph.inputs[0].type.shape == (2, "x.1", 4)
    x = normal(2, 10, 4)
    got = evaluate(bind(graph, {"x": (2, 10, 4)}), {"x": x.numpy()})["output"]
    assert_same(got, module(x), "output")


def test_symbolic_dimensions():
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = nn.Linear(8, 24)

        def forward(self, x):
            b, t, c = x.shape
            q, k, v = self.proj(x).view(b, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
            y = (q @ k.mT).softmax(-1) @ v
            y = y.transpose(1, 2).reshape(b, t, c) + torch.arange(t)[:, None]
            return y + y.new_zeros(b, 1, c), y.reshape(b * t, c).mean(0)

    module = Attend()
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=64)
    graph = imported(module, (normal(2, 6, 8),), dynamic_shapes=({0: batch, 1: length},))
    assert graph.inputs[0].type.shape == ("x.0", "x.1", 8)
    for shape in ((2, 6), (3, 5)):
        x = normal(*shape, 8)
        for g in (graph, bind(graph, {"x": (*shape, 8)})):
            got = evaluate(g, {"x": x.numpy()})
            for array, want in zip(got.values(), module(x), strict=True):
                assert_same(array, want, shape)
    assert not any(n.op.name == "Shape" for n in bind(graph, {"x": (1, 6, 8)}).nodes)


# -- what is refused -----------------------------------------------------------------------------


def refused(module, *inputs):
    with pytest.raises(FrontendError) as caught:
        from_torch.load(export(module, inputs))
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_all_calls_without_a_rule_are_named_with_their_modules():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.i0(x) + torch.special.i1(x)

    text = refused(nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), Odd())), X)
    assert text.startswith("2 calls are not supported: ")
    assert "'1.1.i0' aten.i0.default" in text.replace("special_", "")
    assert "'1.1." in text


def test_branches_are_refused_by_name():
    class Branch(nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))

    assert refused(Branch(), X) == "1 call is not supported: 'cond' cond"


def test_code_that_only_switches_gradients_or_precision_is_transparent():
    class Rotary(nn.Module):
        @torch.no_grad()
        def forward(self, x):
            with torch.autocast(device_type="cpu", enabled=False):
                return x.cos()

    same(nn.Sequential(nn.Linear(4, 4), Rotary()), X)


def test_indices_of_pooling_are_refused():
    class Indices(nn.Module):
        def forward(self, x):
            return F.max_pool2d(x, 2, return_indices=True)

    assert "max_pool2d_with_indices.default (result 1)" in refused(Indices(), IMAGE)


def test_a_mask_as_index_is_refused():
    class Masked(nn.Module):
        def forward(self, x):
            return x[x > 0].sum()

    assert "depends on data" in refused(Masked(), X)


def test_state_that_changes_is_refused():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x):
            self.count += 1
            return x + self.count

    text = refused(Counter(), X)
    assert "changes 'count' in place" in text


def test_an_input_that_is_changed_is_refused():
    class Adds(nn.Module):
        def forward(self, x):
            return x.add_(1)

    assert "changes 'x' in place" in refused(Adds(), X.clone())


def test_a_module_that_returns_nothing_is_refused():
    class Nothing(nn.Module):
        def forward(self, x):
            return None

    assert "returns no tensor" in refused(Nothing(), X)


def test_control_flow_that_depends_on_data_is_refused():
    class Branch(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x - 1

    text = refused(Branch(), X)
    assert "control flow depends on data" in text
    assert "test_from_torch.py" in text


def test_a_module_that_fails_says_why_and_where():
    class Broken(nn.Module):
        def forward(self, x):
            return x @ x

    text = refused(Broken(), X)
    assert "torch.export cannot trace the module" in text
    assert "test_from_torch.py" in text


def test_a_custom_op_is_kept_without_its_meaning():
    @torch.library.custom_op("qctest::twice", mutates_args=())
    def twice(x: torch.Tensor, factor: int) -> torch.Tensor:
        return x * factor

    @twice.register_fake
    def _(x, factor):
        return torch.empty_like(x)

    class Custom(nn.Module):
        def forward(self, x):
            return twice(x, 2) + 1

    graph = imported(Custom(), (X,))
    (node,) = (n for n in graph.nodes if n.op.name == "Opaque")
    assert (node.op.kind, node.op.source_domain) == ("twice.default", "qctest")
    assert node.op.settings == (("factor", 2),)
    program = export(Custom(), (X,))
    meaning = {torch.ops.qctest.twice.default: lambda x, factor: x * factor}
    plain = from_torch.load(program.run_decompositions(meaning))
    assert [n.op.name for n in plain.nodes] == ["Mul", "Add"]


def test_a_module_keeps_its_mode():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(3), nn.Dropout()).train()
    module[1].eval()
    graph = from_torch.load(export(module, (X,)))
    assert {n.op.name for n in graph.nodes} >= {"BatchNormalization"}
    assert [m.training for m in module] == [True, False, True]


def test_every_rule_is_for_an_overload_that_exists_and_says_what_it_does():
    for name, rule in RULES.items():
        packet, _, overload = name.partition(".")
        assert hasattr(getattr(torch.ops.aten, packet), overload), name
        assert rule.__doc__, name
