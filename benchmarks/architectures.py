"""The architectures of ``tests/architectures`` through every way: how far each result is.

    python benchmarks/architectures.py [NAME ...]

Prints one row per network: the largest difference relative to the largest output of torch -> graph,
torch -> graph -> torch and torch -> ONNX -> graph, and of the int8 artifact the SQNR against the
float network (16 random calibration samples, 8 others), values of it that differ from the
reference, and the seconds that compiling took.
"""

import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

import qc
from qc.frontends import from_onnx
from qc.ir.errors import QcError
from qc.ir.evaluate import evaluate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import architectures

COLUMNS = ("network", "graph", "torch again", "by ONNX", "int8, dB", "differing", "seconds")


def arrays(found: object) -> list[np.ndarray]:
    """The outputs of a module, in order."""
    items = list(found.values()) if isinstance(found, dict) else found
    items = [items] if isinstance(items, torch.Tensor) else items
    return [t.detach().numpy() for t in items]


def apart(got: object, want: list[np.ndarray]) -> str:
    """The largest difference relative to the largest element."""
    values = list(got.values()) if isinstance(got, dict) else got
    pairs = zip(values, want, strict=True)
    return f"{max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs):.1e}"


def by_onnx(module: torch.nn.Module, inputs: tuple, want: list[np.ndarray]) -> str:
    """By way of torch's exporter."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.onnx.export(module, inputs, dynamo=True, verbose=False)
        graph = from_onnx.load(exported.model_proto)
    except (QcError, ImportError) as error:
        return str(error).split(";")[0]
    feed = {v.name: t.numpy() for v, t in zip(graph.inputs, inputs, strict=True)}
    return apart(evaluate(graph, feed), want)


def int8(graph: qc.Graph, inputs: tuple) -> list[str]:
    """SQNR, differing values, seconds."""
    names = [v.name for v in graph.inputs]
    began = perf_counter()
    try:
        artifact = qc.compile(graph, calibration=architectures.feeds(inputs, names, 16))
    except QcError as error:
        return [str(error), "", ""]
    seconds = perf_counter() - began
    reference = qc.ir.load(artifact.path)
    signal = noise = 0.0
    differing = values = 0
    for feed in architectures.feeds(inputs, names, 8, seed=2):
        got, exact = artifact.run(feed), evaluate(reference, feed)
        for name, want in evaluate(graph, feed).items():
            signal += float(np.square(want, dtype=np.float64).sum())
            noise += float(np.square(got[name] - want, dtype=np.float64).sum())
            differing += int((np.abs(got[name] - exact[name]) > 1e-5 * np.abs(exact[name])).sum())
            values += want.size
    decibels = 10 * np.log10(signal / noise)
    return [f"{decibels:.1f}", f"{differing} of {values}", f"{seconds:.0f}"]


def row(name: str) -> list[str]:
    """One network."""
    module, inputs = architectures.build(name)
    want = arrays(module(*inputs))
    graph = qc.load(module, inputs)
    feed = {v.name: t.numpy() for v, t in zip(graph.inputs, inputs, strict=True)}
    again = arrays(qc.to_torch(graph)(*inputs))
    return [
        name, apart(evaluate(graph, feed), want), apart(again, want),
        by_onnx(module, inputs, want), *int8(graph, inputs),
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    print("|", " | ".join(COLUMNS), "|")
    print("|", "---|" * len(COLUMNS), sep="")
    for name in sys.argv[1:] or architectures.NAMES:
        print("|", " | ".join(row(name)), "|", flush=True)


if __name__ == "__main__":
    main()
