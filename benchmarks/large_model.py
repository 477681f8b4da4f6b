"""A large language model with random weights: how much memory its compilation takes.

    python benchmarks/large_model.py                       # 2.6 GB, recipe w4-group
    python benchmarks/large_model.py --layers 2 --recipe float

The network is a Llama with the widths of TinyLlama-1.1B, written with external data, which are
kept with ``--model``.  Memory is the greatest resident size of the compiling process, pages of the
mapped file included, over the size of the file.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import setting
from onnx import TensorProto, helper

WIDTH, HEADS, SHARED, HIDDEN, WORDS = 2048, 32, 4, 5632, 32000
SIZE = WIDTH // HEADS
TOKENS = 16
WEIGHTS = "weights.bin"


class Writer:
    """Writes the network node by node, and its weights straight to the file beside it."""

    def __init__(self, folder: Path, layers: int) -> None:
        self.folder, self.layers = folder, layers
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []

    def write(self) -> Path:
        """The model's path."""
        with (self.folder / WEIGHTS).open("wb") as self.file:
            self.network()
        tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, TOKENS])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, TOKENS, WORDS])
        graph = helper.make_graph(self.nodes, "llama", [tokens], [logits], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
        path = self.folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    def network(self) -> None:
        """Embedding, layers, head."""
        x = self.op("Gather", self.weight("embedding", WORDS, WIDTH), "tokens")
        angles = np.arange(TOKENS)[:, None] * 1e4 ** (-np.arange(SIZE // 2) / (SIZE // 2))
        tables = [self.array(n, f(angles)[None]) for n, f in (("cos", np.cos), ("sin", np.sin))]
        for i in range(self.layers):
            x = self.op("Add", x, self.attention(self.norm(x, f"{i}.n"), tables, f"{i}"))
            y = self.norm(x, f"{i}.m")
            gate = self.linear(y, f"{i}.gate", WIDTH, HIDDEN)
            gate = self.op("Mul", gate, self.op("Sigmoid", gate))
            up = self.op("Mul", gate, self.linear(y, f"{i}.up", WIDTH, HIDDEN))
            x = self.op("Add", x, self.linear(up, f"{i}.down", HIDDEN, WIDTH))
        self.linear(self.norm(x, "norm"), "head", WIDTH, WORDS, "logits")

    def attention(self, x: str, tables: list[str], name: str) -> str:
        """Shared heads with rotary embeddings."""
        q, k, v = (
            self.linear(x, f"{name}.{part}", WIDTH, heads * SIZE)
            for part, heads in (("q", HEADS), ("k", SHARED), ("v", SHARED))
        )
        rotated = [
            self.op("RotaryEmbedding", part, *tables, num_heads=heads)
            for part, heads in ((q, HEADS), (k, SHARED))
        ]
        y = self.op("Attention", *rotated, v, is_causal=1, q_num_heads=HEADS, kv_num_heads=SHARED)
        return self.linear(y, f"{name}.o", WIDTH, WIDTH)

    def norm(self, x: str, name: str) -> str:
        """RMSNormalization."""
        return self.op("RMSNormalization", x, self.array(name, np.ones(WIDTH)), axis=-1)

    def linear(self, x: str, name: str, inputs: int, outputs: int, result: str = "") -> str:
        """A product with weights."""
        return self.op("MatMul", x, self.weight(name, inputs, outputs), result=result)

    def op(self, kind: str, *operands: str, result: str = "", **attributes: object) -> str:
        """A node; the name of its result."""
        name = result or f"y{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, operands, [name], **attributes))
        return name

    def array(self, name: str, values: np.ndarray) -> str:
        """A small constant, inside the model."""
        self.weights.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        """Normal numbers, each as large as keeps the activations' size."""
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        start = self.file.tell()
        for _ in range(shape[0]):
            row = self.rng.standard_normal(shape[1], np.float32) * np.float32(shape[0] ** -0.5)
            self.file.write(row.tobytes())
        for key, value in (
            ("location", WEIGHTS), ("offset", start), ("length", self.file.tell() - start)
        ):  # fmt: skip
            tensor.external_data.add(key=key, value=str(value))
        self.weights.append(tensor)
        return name


def compiled(path: Path, out: Path, recipe: str) -> dict[str, float]:
    """Seconds and peak bytes of a process that compiles, in a process of its own."""
    command = [sys.executable, __file__, "--child", str(path), str(out), recipe]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(found.stdout.splitlines()[-1]))


def child(path: str, out: str, recipe: str) -> None:
    """Compile, and print what it took."""
    from qc import api

    started = perf_counter()
    api.compile_to_directory(api.Job(path, recipe=recipe), out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": perf_counter() - started, "peak": peak}))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--recipe", default="w4-group")
    parser.add_argument("--model", type=Path, help="folder that keeps the network")
    parser.add_argument("--json", help="write the figures there")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        child(*args.child)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.model or Path(scratch)
        folder.mkdir(exist_ok=True)
        path = folder / "model.onnx"
        if not path.is_file():
            Writer(folder, args.layers).write()
        size = sum(p.stat().st_size for p in (path, folder / WEIGHTS))
        found = compiled(path, Path(scratch) / "out", args.recipe)
        stored = sum(p.stat().st_size for p in (Path(scratch) / "out").iterdir())
    row = [args.recipe, size / 1e9, found["peak"] / 1e9, found["peak"] / size, found["seconds"]]
    headers = ["recipe", "model GB", "peak GB", "peak / model", "seconds", "artifact GB"]
    print(setting.markdown(headers, [[*row, stored / 1e9]]))
    setting.finish({"setting": setting.machine(), "size": size, **found}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
