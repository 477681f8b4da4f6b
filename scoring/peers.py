"""Other engines beside ours: onnxruntime in float and in its best int8, timed in one process."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from ..data.dataset import InputSpec
from ..ir.errors import DataError, QcError, nearest
from ..ir.types import Array
from ..progress import Progress, Silent

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..backends.codegen.artifact import Artifact

log = logging.getLogger(__name__)

Feed = Mapping[str, Array]
Call = Callable[[], object]
FLOAT, INT8 = "onnxruntime-float", "onnxruntime-int8"
PEERS = ("onnxruntime",)
_BLOCK = 1e-3
"""Seconds that a timed block of calls should last, so that the clock does not matter."""


@dataclass
class Contest:
    """Calls that are timed in turn, so that all of them meet the same disturbances."""

    calls: dict[str, Call] = field(default_factory=dict)
    seconds: float = 3.0

    def medians(self) -> dict[str, float]:
        """Median milliseconds per call, by name."""
        return {name: median(times) for name, times in self.rounds().items()}

    def rounds(self) -> dict[str, list[float]]:
        """Milliseconds per call, by name, of at least seven interleaved rounds."""
        repeats = {name: self._repeats(call) for name, call in self.calls.items()}
        times: dict[str, list[float]] = {name: [] for name in self.calls}
        names = list(self.calls)
        started = perf_counter()
        rounds = 0
        while rounds < 7 or perf_counter() - started < self.seconds:
            for name in names[rounds % len(names) :] + names[: rounds % len(names)]:
                times[name].append(1e3 * _timed(self.calls[name], repeats[name]))
            rounds += 1
        return times

    @staticmethod
    def _repeats(call: Call) -> int:
        call()
        once = min(_timed(call, 1) for _ in range(3))
        return max(1, int(_BLOCK / max(once, 1e-7)))


def _timed(call: Call, repeats: int) -> float:
    began = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - began) / repeats


def ort_call(model: str | Path | bytes, feed: Feed, threads: int = 1, level: str = "all") -> Call:
    """A call of onnxruntime with inputs and outputs bound to fixed memory."""
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = {
        "all": levels.ORT_ENABLE_ALL,
        "extended": levels.ORT_ENABLE_EXTENDED,
    }[level]
    options.add_session_config_entry("session.force_spinning_stop", "1")
    source = model if isinstance(model, bytes) else str(model)
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
    names = [o.name for o in session.get_outputs()]
    for name, array in zip(names, session.run(None, dict(feed)), strict=True):
        binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(np.asarray(array)))
    return lambda: session.run_with_iobinding(binding)


def noise(specs: Sequence[InputSpec], count: int, seed: int = 0) -> list[dict[str, Array]]:
    """Feeds of random numbers (zeros for integers): enough to time a network."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        feed: dict[str, Array] = {}
        for spec in specs:
            shape = tuple(d if isinstance(d, int) else 1 for d in spec.shape)
            real = np.dtype(spec.dtype).kind == "f"
            feed[spec.name] = (rng.standard_normal(shape) if real else np.zeros(shape)).astype(
                spec.dtype
            )
        out.append(feed)
    return out


def int8_candidates(model: ModelProto, feeds: Sequence[Feed], scratch: Path) -> dict[str, Path]:
    """Files that onnxruntime's own quantizer makes of a float32 network, by variant.

    uint8 asymmetric activations per tensor, int8 weights per channel (its fast kind on x86), after
    its
    own preprocessing; as QDQ and as integer operators.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds: Iterator[Feed] = iter(feeds)

        def get_next(self) -> dict[str, Array] | None:
            feed = next(self.feeds, None)
            return None if feed is None else dict(feed)

    source, prepared = scratch / "float.onnx", scratch / "prepared.onnx"
    onnx.save(model, str(source))
    base = _prepared(source, prepared)
    found: dict[str, Path] = {}
    for name, style in (("qdq", QuantFormat.QDQ), ("qoperator", QuantFormat.QOperator)):
        path = scratch / f"{name}.onnx"
        for adjust in (True, False):  # its adjustment of weights to the bias fails for some Gemms
            try:
                quantize_static(
                    base, path, Reader(), quant_format=style, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    extra_options={} if adjust else {"QDQDisableWeightAdjustForInt32Bias": True},
                )  # fmt: skip
            except Exception as error:  # third-party code: whatever it raises, this variant is out
                log.info("onnxruntime cannot quantize to %s: %s", name, error)
            else:
                found[name] = path
                break
    return found


def _prepared(source: Path, prepared: Path) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    for symbolic in (False, True):
        try:
            quant_pre_process(source, prepared, skip_symbolic_shape=symbolic)
        except Exception as error:  # third-party code: go on without it
            log.info("onnxruntime's preprocessing failed: %s", error)
        else:
            return prepared
    return source


def int8_calls(paths: Mapping[str, Path], feed: Feed, threads: int) -> dict[str, Call]:
    """Calls for all int8 variants: channels first and, with all optimisations, channels last."""
    calls: dict[str, Call] = {}
    for name, path in paths.items():
        for level in ("all", "extended"):
            try:
                calls[f"{name}/{level}"] = ort_call(path, feed, threads, level)
            except Exception as error:  # third-party code: this variant does not run
                log.info("onnxruntime does not run %s: %s", name, error)
    return calls


def peers_of(
    float_model: str | Path | bytes,
    exported: ModelProto | None,
    feeds: Sequence[Feed],
    scratch: Path,
    threads: int,
    more: Mapping[str, Path] | None = None,
) -> dict[str, Call]:
    """Calls under ``onnxruntime-float`` and ``onnxruntime-int8/...`` (several: the best counts).

    ``exported`` is the network in float32 at a new opset, for onnxruntime's quantizer; ``more`` are
    further int8 files.
    """
    calls: dict[str, Call] = {f"{FLOAT}/given": ort_call(float_model, feeds[0], threads)}
    paths = dict(more or {})
    if exported is not None:
        calls[f"{FLOAT}/exported"] = ort_call(exported.SerializeToString(), feeds[0], threads)
        paths |= int8_candidates(exported, feeds, scratch)
    for name, call in int8_calls(paths, feeds[0], threads).items():
        calls[f"{INT8}/{name}"] = call
    return calls


def best(medians: Mapping[str, float], peer: str) -> float | None:
    """The best variant's time of a peer, None where none ran."""
    times = [t for name, t in medians.items() if name.startswith(f"{peer}/")]
    return min(times, default=None)


def bench_artifact(
    directory: Path,
    against: Sequence[str],
    threads: int,
    model: str | Path | None,
    seconds: float,
    progress: Progress | None,
    device: str | None = None,
) -> dict[str, object]:
    """The artifact and the peers that are asked for; see ``api.bench``."""
    from ..backends.codegen.artifact import Artifact
    from ..models import manifest_specs

    for name in against:
        if name not in PEERS:
            raise DataError(f"unknown peer {name!r}; {nearest(name, PEERS)}")
    show = progress or Silent()
    elsewhere = f"on {device}" if device else ""
    artifact = Artifact.load(directory, threads, device)
    if artifact.emulator:
        elsewhere = f"in {artifact.emulator}"
    if elsewhere and against:
        raise DataError(
            f"{str(directory)!r} runs {elsewhere}: its times cannot be compared with those of this "
            "machine; leave out --against"
        )
    feeds = noise(manifest_specs(artifact.manifest), 4)
    if artifact.clock is not None:
        show.start(f"bench {elsewhere}")
        times = artifact.clock(artifact.runner(feeds[0]).arrays)
        show.done()
        return _table(threads, artifact, 1e3 * median(times), {})
    calls: dict[str, Call] = {"artifact": artifact.runner(feeds[0])}
    with tempfile.TemporaryDirectory(prefix="qc-bench-") as scratch:
        if against:
            show.start("prepare onnxruntime")
            calls |= _peers(directory, model, feeds, Path(scratch), threads)
        show.start("bench")
        medians = Contest(calls, seconds).medians()
        show.done()
    return _table(threads, artifact, medians.pop("artifact"), medians)


def _table(
    threads: int, artifact: Artifact, ours: float, variants: Mapping[str, float]
) -> dict[str, object]:
    found = {peer: best(variants, peer) for peer in (FLOAT, INT8)}
    return {
        "threads": threads,
        "emulator": artifact.emulator,
        "device": artifact.device,
        "note": artifact.note,
        "artifact_ms": ours,
        "peers": {peer: t for peer, t in found.items() if t is not None},
        "variants": dict(variants),
    }


def _peers(
    directory: Path, model: str | Path | None, feeds: Sequence[Feed], scratch: Path, threads: int
) -> dict[str, Call]:
    """Peers of an artifact: its source model, else its portable form without quantization."""
    import onnx

    from ..compiler import QDQ_MODEL
    from .strip import stripped

    portable = directory / QDQ_MODEL
    try:
        exported = stripped(onnx.load(str(portable)))
        source: str | bytes = (
            str(found) if (found := _source(directory, model)) else exported.SerializeToString()
        )
        return peers_of(source, exported, feeds, scratch, threads, {"ours": portable})
    except QcError:
        raise
    except Exception as error:  # onnx and onnxruntime raise many kinds
        raise DataError(f"onnxruntime does not run this network: {error}") from error


def _source(directory: Path, model: str | Path | None) -> Path | None:
    """The float model: as given, else where the report says it was, if it is still the same."""
    from ..ir.hashes import sha256
    from ..reporting.report import read

    if model is not None:
        return Path(model)
    source = read(directory).get("source")
    path = Path(str(source.get("model", ""))) if isinstance(source, dict) else Path()
    if (
        path.suffix == ".onnx"
        and path.is_file()
        and isinstance(source, dict)
        and sha256(path) == source.get("sha256")
    ):
        return path
    return None
