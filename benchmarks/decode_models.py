"""stories260k for onnxruntime, token by token: what the benchmark of decoders compares with.

The network is built from its weights alone, its rotary angles by their formula, so that it is a
second opinion too.  ``plain``: standard ops, keys and values concatenated and handed back;
``fused``: onnxruntime's GroupQueryAttention with keys and values in place, one product for queries,
keys and values, its fused norms.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qc.ir import Graph

LAYERS, HEADS, SHARED, SIZE, EPSILON = 5, 8, 4, 8, 1e-5
BASE = 10000.0
WIDE = 16
"""GroupQueryAttention takes heads of 16 numbers at least: zeros fill them up."""


def weights_of(graph: Graph) -> dict[str, np.ndarray]:
    """Weights by the names of their layers, from the network in canonical form."""
    found = {"emb": graph["emb.weight"].data}
    for node in graph.nodes:
        if node.op.name == "MatMul" and node.operands[1].data is not None:
            found[node.name.strip("/").removesuffix("/MatMul")] = node.operands[1].data
        if node.op.name == "RMSNormalization":
            found[node.name.strip("/").removesuffix("/Mul_1")] = node.operands[1].data
    return found


class Writer:
    """An ONNX graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: np.ndarray) -> str:
        """The name of an initializer."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def op(
        self, kind: str, *ins: str, outs: list[str] | None = None, domain: str = "",
        **attributes: object,
    ) -> str:  # fmt: skip
        """Add a node; the name of its first result."""
        names = outs or [f"v{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, ins, names, domain=domain, **attributes))
        return names[0]

    def model(self, ins: list, outs: list) -> onnx.ModelProto:
        """The model with these ports."""
        graph = helper.make_graph(self.nodes, "decoder", ins, outs, self.constants)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def angles(capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines ``[capacity, size / 2]``."""
    w = BASE ** (-np.arange(0, SIZE, 2) / SIZE)
    at = np.arange(capacity)[:, None] * w
    return np.cos(at).astype(np.float32), np.sin(at).astype(np.float32)


def fused(w: dict[str, np.ndarray], capacity: int) -> onnx.ModelProto:
    """GroupQueryAttention, in place where the caller binds one memory."""
    g, ms = Writer(), "com.microsoft"
    cos, sin = (g.constant(np.pad(t, ((0, 0), (0, (WIDE - SIZE) // 2)))) for t in angles(capacity))
    x = g.op("Gather", g.constant(w["emb"]), "ids")
    y = g.op("SimplifiedLayerNormalization", x, g.constant(w["L.0/an"]), epsilon=EPSILON, axis=-1)
    ins, outs = [], []
    for i in range(LAYERS):
        qkv = np.concatenate([_wide(w[f"L.{i}/{n}"].T).T for n in ("wq", "wk", "wv")], 1)
        packed = g.op("MatMul", y, g.constant(qkv))
        states = [f"{part}.{i}" for part in ("k", "v")]
        z = g.op(
            "GroupQueryAttention", packed, "", "", *states, "seqlens", "total", cos, sin,
            outs=[f"att{i}", *(f"{s}.new" for s in states)], domain=ms, num_heads=HEADS,
            kv_num_heads=SHARED, do_rotary=1, rotary_interleaved=1,
            scale=SIZE**-0.5,
        )  # fmt: skip
        z = g.op("MatMul", z, g.constant(_wide(w[f"L.{i}/wo"])))
        y, x = _skip(g, x, z, w[f"L.{i}/fn"])
        gate = g.op("MatMul", y, g.constant(w[f"L.{i}/w1"]))
        up = g.op("MatMul", y, g.constant(w[f"L.{i}/w3"]))
        z = g.op("Mul", g.op("QuickGelu", gate, domain=ms, alpha=1.0), up)
        z = g.op("MatMul", z, g.constant(w[f"L.{i}/w2"]))
        y, x = _skip(g, x, z, w[f"L.{i + 1}/an"] if i + 1 < LAYERS else w["norm"])
        shape = (1, SHARED, capacity, WIDE)
        ins += [helper.make_tensor_value_info(s, TensorProto.FLOAT, shape) for s in states]
        outs += [
            helper.make_tensor_value_info(f"{s}.new", TensorProto.FLOAT, shape) for s in states
        ]
    g.op("MatMul", y, g.constant(w["out"]), outs=["logits"])
    info = helper.make_tensor_value_info
    ids = info("ids", TensorProto.INT64, (1, "n"))
    lengths = [info("seqlens", TensorProto.INT32, (1,)), info("total", TensorProto.INT32, (1,))]
    logits = info("logits", TensorProto.FLOAT, (1, "n", w["out"].shape[1]))
    return g.model([ids, *lengths, *ins], [logits, *outs])


def _wide(weights: np.ndarray) -> np.ndarray:
    """Rows of heads ``[heads * size, n]`` with zeros after every head's."""
    heads = weights.reshape(-1, SIZE, weights.shape[1])
    return np.pad(heads, ((0, 0), (0, WIDE - SIZE), (0, 0))).reshape(-1, weights.shape[1])


def _skip(g: Writer, x: str, z: str, gamma: np.ndarray) -> tuple[str, str]:
    """The norm of a sum, and the sum."""
    n = len(g.nodes)
    g.op(
        "SkipSimplifiedLayerNormalization", x, z, g.constant(gamma),
        outs=[f"norm{n}", "", "", f"sum{n}"], domain="com.microsoft", epsilon=EPSILON,
    )  # fmt: skip
    return f"norm{n}", f"sum{n}"


def plain(w: dict[str, np.ndarray], capacity: int) -> onnx.ModelProto:
    """Standard ops; keys and values grow by concatenation."""
    g = Writer()
    cos, sin = (g.op("Gather", g.constant(t[:, None]), "position") for t in angles(capacity))
    x = g.op("Gather", g.constant(w["emb"]), "ids")
    two, eps = g.constant(np.float32(2)), g.constant(np.float32(EPSILON))
    last, one = g.constant(np.array([-1])), g.constant(np.float32(1))

    def norm(x: str, gamma: np.ndarray) -> str:
        power = g.op("ReduceMean", g.op("Pow", x, two), last)
        root = g.op("Sqrt", g.op("Add", power, eps))
        return g.op("Mul", g.op("Mul", x, g.op("Div", one, root)), g.constant(gamma))

    def heads(x: str, weights: np.ndarray, count: int) -> str:
        y = g.op("MatMul", x, g.constant(weights))
        return g.op("Reshape", y, g.constant(np.array([1, -1, count, SIZE])))

    def rotate(x: str, count: int) -> str:
        pairs = g.op("Reshape", x, g.constant(np.array([1, -1, count, SIZE // 2, 2])))
        a, b = (g.op("Gather", pairs, g.constant(np.int64(i)), axis=4) for i in (0, 1))
        even = g.op("Sub", g.op("Mul", a, cos), g.op("Mul", b, sin))
        odd = g.op("Add", g.op("Mul", a, sin), g.op("Mul", b, cos))
        parts = [g.op("Unsqueeze", v, last) for v in (even, odd)]
        y = g.op("Concat", *parts, axis=-1)
        return g.op("Reshape", y, g.constant(np.array([1, -1, count, SIZE])))

    ins, outs, info = [], [], helper.make_tensor_value_info
    times, scale = HEADS // SHARED, g.constant(np.float32(SIZE**-0.5))
    for i in range(LAYERS):
        y = norm(x, w[f"L.{i}/an"])
        q = rotate(heads(y, w[f"L.{i}/wq"], HEADS), HEADS)
        k = rotate(heads(y, w[f"L.{i}/wk"], SHARED), SHARED)
        v = heads(y, w[f"L.{i}/wv"], SHARED)
        q = g.op("Reshape", g.op("Transpose", q, perm=[0, 2, 1, 3]),
                 g.constant(np.array([1, SHARED, -1, SIZE])))  # fmt: skip
        kept = []
        for part, value in (("k", k), ("v", v)):
            new = g.op("Transpose", value, perm=[0, 2, 1, 3])
            g.op("Concat", f"{part}.{i}", new, outs=[f"{part}.{i}.new"], axis=2)
            kept.append(f"{part}.{i}.new")
            ins.append(info(f"{part}.{i}", TensorProto.FLOAT, (1, SHARED, "past", SIZE)))
            outs.append(info(f"{part}.{i}.new", TensorProto.FLOAT, (1, SHARED, "total", SIZE)))
        scores = g.op("MatMul", q, g.op("Transpose", kept[0], perm=[0, 1, 3, 2]))
        z = g.op("MatMul", g.op("Softmax", g.op("Mul", scores, scale), axis=-1), kept[1])
        assert times * SHARED == HEADS  # one token: rows of q are heads that share keys
        z = g.op("Reshape", z, g.constant(np.array([1, 1, HEADS * SIZE])))
        x = g.op("Add", x, g.op("MatMul", z, g.constant(w[f"L.{i}/wo"])))
        y = norm(x, w[f"L.{i}/fn"])
        gate = g.op("MatMul", y, g.constant(w[f"L.{i}/w1"]))
        gate = g.op("Mul", gate, g.op("Sigmoid", gate))
        z = g.op("Mul", gate, g.op("MatMul", y, g.constant(w[f"L.{i}/w3"])))
        x = g.op("Add", x, g.op("MatMul", z, g.constant(w[f"L.{i}/w2"])))
    g.op("MatMul", norm(x, w["norm"]), g.constant(w["out"]), outs=["logits"])
    head = [info("ids", TensorProto.INT64, (1, 1)), info("position", TensorProto.INT64, (1,))]
    logits = info("logits", TensorProto.FLOAT, (1, 1, w["out"].shape[1]))
    return g.model([*head, *ins], [logits, *outs])


def dynamic_int8(model: onnx.ModelProto, scratch: Path, name: str) -> bytes:
    """onnxruntime's own dynamic quantization: int8 weights per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, path = scratch / f"{name}.onnx", scratch / f"{name}.int8.onnx"
    onnx.save(model, str(source))
    quantize_dynamic(source, path, per_channel=True, weight_type=QuantType.QInt8,
                     op_types_to_quantize=["MatMul"],
                     extra_options={"DefaultTensorType": TensorProto.FLOAT})  # fmt: skip
    return path.read_bytes()


Generate = Callable[[list[int], int], np.ndarray]
"""From a prompt and a number to so many more tokens, each the likeliest."""


def _session(model: bytes, threads: int):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def generate_fused(model: bytes, capacity: int, threads: int) -> Generate:
    """Everything bound to fixed memory; keys and values are in place."""
    import onnxruntime as ort

    session = _session(model, threads)
    value = ort.OrtValue.ortvalue_from_numpy
    binding = session.io_binding()
    fixed = {"ids": np.zeros((1, 1), np.int64), "seqlens": np.zeros(1, np.int32),
             "total": np.zeros(1, np.int32)}  # fmt: skip
    bound = {name: value(array) for name, array in fixed.items()}
    words = session.get_outputs()[0].shape[-1]
    logits = value(np.zeros((1, 1, words), np.float32))
    for name, v in bound.items():
        binding.bind_ortvalue_input(name, v)
    binding.bind_ortvalue_output("logits", logits)
    for port in session.get_inputs()[3:]:
        kept = value(np.zeros((1, SHARED, capacity, WIDE), np.float32))
        binding.bind_ortvalue_input(port.name, kept)
        binding.bind_ortvalue_output(f"{port.name}.new", kept)

    def step(token: int, at: int) -> np.ndarray:
        fixed["ids"][0, 0], fixed["seqlens"][0], fixed["total"][0] = token, at, at + 1
        for name, v in bound.items():
            v.update_inplace(fixed[name])
        session.run_with_iobinding(binding)
        return logits.numpy()[0, 0]

    return lambda prompt, count: _greedy(step, prompt, count)


def generate_plain(model: bytes, capacity: int, threads: int) -> Generate:
    """Keys and values go out and in again, without a copy through numpy."""
    import onnxruntime as ort

    session = _session(model, threads)
    value = ort.OrtValue.ortvalue_from_numpy
    names = [p.name for p in session.get_inputs()[2:]]
    outs = [p.name for p in session.get_outputs()]
    state: dict[str, ort.OrtValue] = {}

    def step(token: int, at: int) -> np.ndarray:
        if at == 0:
            empty = np.zeros((1, SHARED, 0, SIZE), np.float32)
            state.update((n, value(empty)) for n in names)
        feed = {"ids": value(np.array([[token]])), "position": value(np.array([at])), **state}
        logits, *kept = session.run_with_ort_values(outs, feed)
        state.update(zip(names, kept, strict=True))
        return logits.numpy()[0, 0]

    return lambda prompt, count: _greedy(step, prompt, count)


def _greedy(step: Callable[[int, int], np.ndarray], prompt: list[int], count: int) -> np.ndarray:
    for at, token in enumerate(prompt):
        scores = step(token, at)
    made = [int(scores.argmax())]
    for at in range(len(prompt), len(prompt) + count - 1):
        made.append(int(step(made[-1], at).argmax()))
    return np.array(made)
