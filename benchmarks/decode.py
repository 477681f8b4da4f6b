"""Tokens per second of a decoder beside onnxruntime's, interleaved in one process.

    python benchmarks/decode.py
    python benchmarks/decode.py --recipes int8 --rounds 21 --json figures.json

Takes stories260k of the zoo and makes decoders of it by every recipe; onnxruntime runs the same
weights with keys and values kept (``decode_models.py``), in float and in its dynamic int8.  All
continue the same prompt greedily, on one thread.  Tokens of ours are compared with those of full
recomputation: the same graph without states, compiled, run on the whole sequence for every token.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import setting

from qc import targets
from qc.api import compile_to_directory
from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.build import build
from qc.ir.text import load
from qc.job import Job
from qc.loading import load_concrete
from qc.passes.canonicalize import Canonicalize
from qc.passes.context import Context
from qc.passes.decoding.stretch import stretched

HEADERS = ("", "tokens/s, median", "best", "times ort's best", "as recomputed", "as ort float")
PROMPT = [1]
"""Begin of sequence."""


def recomputed(out: Path, target: str, length: int, count: int) -> np.ndarray:
    """``count`` tokens after the prompt, each from a run of the whole network without states."""
    whole = stretched(load(out), length)
    (name,) = (v.name for v in whole.inputs)
    build(whole, targets.load(target), out.parent / f"{out.name}-whole")
    artifact = Artifact.load(out.parent / f"{out.name}-whole")
    tokens = np.zeros((1, length), np.int64)
    tokens[0, : len(PROMPT)] = PROMPT
    for at in range(len(PROMPT), len(PROMPT) + count):
        (scores,) = artifact.run({name: tokens}).values()
        if at < length:
            tokens[0, at] = scores[0, at - 1].argmax()
        last = int(scores[0, at - 1].argmax())
    return np.append(tokens[0, len(PROMPT) : len(PROMPT) + count - 1], last)


def ours(out: Path):
    """A function that generates by an artifact's decoder."""
    decoder = Artifact.load(out).decoder()

    def generate(prompt: list[int], count: int) -> np.ndarray:
        decoder.reset()
        return decoder.generate(np.array([prompt]), count)[0]

    return generate


def theirs(scratch: Path, path: Path, capacity: int) -> dict:
    """onnxruntime's generators by name."""
    import decode_models as models

    graph = load_concrete(path, {}, lambda _: {}).copy()
    Canonicalize().apply(graph, Context())
    weights, found = models.weights_of(graph), {}
    for name, make, run in (
        ("fused", models.fused, models.generate_fused),
        ("plain", models.plain, models.generate_plain),
    ):
        model = make(weights, capacity)
        whole = model.SerializeToString()
        small = models.dynamic_int8(model, scratch, name)
        found[f"onnxruntime float, {name}"] = run(whole, capacity, 1)
        found[f"onnxruntime int8, {name}"] = run(small, capacity, 1)
    return found


def main() -> None:
    """Compile, compare, time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipes", nargs="+", default=["float", "int8-dynamic", "int8"])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--target", default="host")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    zoo = setting.zoo()
    entry, capacity = zoo.load("stories260k"), len(PROMPT) + args.tokens - 1
    with tempfile.TemporaryDirectory(prefix="qc-bench-") as folder:
        scratch = Path(folder)
        np.savez(scratch / "calib.npz", **entry.calibration(64))
        calls, wanted = theirs(scratch, Path(entry.path), capacity), {}
        for recipe in args.recipes:
            out, calib = scratch / recipe, scratch / "calib.npz"
            job = Job(str(entry.path), args.target, recipe, str(calib), capacity=capacity)
            compile_to_directory(job, out)
            calls[f"qc {recipe}"] = ours(out)
            wanted[f"qc {recipe}"] = recomputed(out, args.target, capacity, args.tokens)
        tokens, times = {}, {name: [] for name in calls}
        for _ in range(args.rounds):
            for name, call in calls.items():
                started = perf_counter()
                tokens[name] = call(PROMPT, args.tokens)
                times[name].append(perf_counter() - started)
    speed = {name: args.tokens / median(found) for name, found in times.items()}
    best = max(value for name, value in speed.items() if name.startswith("onnxruntime"))
    first = tokens["onnxruntime float, fused"]
    rows = [
        [
            name, round(speed[name]), round(args.tokens / min(times[name])), speed[name] / best,
            _same(tokens[name], wanted.get(name)), _same(tokens[name], first),
        ]
        for name in calls
    ]  # fmt: skip
    print(setting.markdown(HEADERS, rows))
    setting.finish(
        {"machine": setting.machine(), "tokens_per_second": speed,
         "identical": {n: bool((tokens[n] == wanted[n]).all()) for n in wanted}}, args.json,
    )  # fmt: skip
    if any((tokens[n] != wanted[n]).any() for n in wanted):
        sys.exit("tokens differ from those of full recomputation")


def _same(tokens: np.ndarray, wanted: np.ndarray | None) -> str | None:
    """How many tokens agree before the first that does not."""
    if wanted is None:
        return None
    differ = np.flatnonzero(tokens != wanted)
    return f"{differ[0] if differ.size else len(tokens)} of {len(tokens)}"


if __name__ == "__main__":
    main()
