"""The public face: load, evaluate, compile, score, bench.  The command line calls these too."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .compiler import compile_to
from .data.dataset import Dataset
from .ir.errors import BackendError
from .ir.evaluate import evaluate as reference
from .ir.graph import Graph
from .ir.types import Array
from .job import Data, Job
from .loading import Source
from .loading import load as load_model
from .models import open_model
from .progress import Progress
from .reporting.report import Report
from .scoring import runs as scoring
from .scoring.runs import Score
from .targets import Target
from .tuning import Where, bundle_model, check_writable, database_path, open_database, tune_model

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from .backends.codegen.artifact import Artifact

__all__ = [
    "Job",
    "Where",
    "bench",
    "compile",
    "compile_to_directory",
    "evaluate",
    "import_results",
    "load",
    "score",
    "to_torch",
    "tune",
    "tune_bundle",
]


def load(
    source: Source,
    example_inputs: object = None,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """A network from an ``.onnx`` or ``.pt2`` file, ``module:callable``, or a model in memory.

    In memory: an ONNX model, an exported program of PyTorch, or an nn.Module with
    ``example_inputs`` (a tensor, the positional arguments, or keyword arguments by name).
    ``input_shapes`` makes symbolic dimensions concrete (``{"input": (1, 3, 224, 224)}``).
    Raises ``FrontendError`` for what cannot be read, naming all unsupported nodes at once.
    """
    return load_model(source, example_inputs, input_shapes=input_shapes)


def evaluate(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name for one feed: the numpy reference, which defines what a graph means.

    Raises ``DataError`` where the feed does not fit the inputs.
    """
    return reference(graph, inputs)


def to_torch(graph: Graph, frozen: Sequence[str] = ()) -> GraphModule:
    """A float graph as a ``torch.fx.GraphModule`` that can be trained; :func:`load` takes it back.

    Weights become parameters under their names, what is none (statistics, masks, numbers, and what
    the patterns in ``frozen`` match) buffers.  Raises ``BackendError`` for ops without a form in
    torch (integer ones, say), naming them, and where torch is not installed.
    """
    try:
        from .backends.torch_fx.convert import to_torch as convert
    except ImportError as error:
        raise BackendError(
            "to_torch needs torch, which is not installed: pip install 'qc-compiler[torch]'"
        ) from error
    return convert(graph, frozen)


def compile(
    model: Source,
    *,
    target: str | Path | Target = "host",
    recipe: str | None = None,
    calibration: Data | None = None,
    evaluation: str | Path | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    keep_float: Sequence[str] = (),
    preprocess: str | Path | None = None,
    seed: int = 0,
    options: Mapping[str, object] | None = None,
    verify: bool = False,
    database: str | Path | None = None,
    tune: float | None = None,
    searcher: str = "templates",
    measured_on: str = "",
    capacity: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Artifact:
    """Compress and compile; ``artifact.save("out/")`` keeps the result.

    ``calibration``: DATA (a path) or a re-iterable of feeds ``{input name: array}``; with it
    activations
    are quantized statically, without it at run time.  ``recipe``: a name or a TOML file.
    ``options``:
    ``{"pass.option": value}``.  ``verify`` checks the contract of every pass.
    ``database``: of tuned kernels (default: the user's); ``tune``: seconds to spend on measuring
    kernels first; ``searcher``: who proposes them, ``"templates"`` or ``"metaschedule"``.
    ``measured_on``: whose times count where several machines measured.
    ``capacity``: makes a causal network a decoder of up to so many tokens, which
    ``artifact.decoder()`` runs token by token.
    """
    from .backends.codegen.artifact import Artifact

    job = Job(
        model, target, recipe, calibration, evaluation, None, input_shapes or {}, keep_float,
        preprocess, seed, options or {}, verify, database, tune, searcher=searcher,
        measured_on=measured_on, capacity=capacity,
    )  # fmt: skip
    directory = Path(tempfile.mkdtemp(prefix="qc-"))
    try:
        compile_to(job, directory, progress)
        artifact = Artifact.load(directory, threads)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    weakref.finalize(artifact, shutil.rmtree, directory, ignore_errors=True)
    return artifact


def compile_to_directory(job: Job, out: str | Path, progress: Progress | None = None) -> Report:
    """Compile into ``out``, replaced as a whole at the end if it is an artifact of ours."""
    from .backends.codegen.build import replacing

    out = Path(out)
    with replacing(out) as draft:
        report = compile_to(job, draft, progress, name=str(out))
    return report


def tune(
    job: Job,
    seconds: float = 300.0,
    target: str | Path | Target | None = None,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Measure the kernels of a model or an artifact (``job.model``) where ``job.where`` says.

    ``{"target", "measurer", "database", "seconds", "speedup", "workloads"}``; the records go to
    ``job.database``, where every later compilation finds them.  ``target``: default the artifact's.
    """
    return tune_model(job, seconds, target, progress)


def tune_bundle(
    job: Job,
    path: str | Path,
    seconds: float = 300.0,
    target: str | Path | Target | None = None,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Write a bundle that measures the kernels of ``job.model`` on a machine without a network.

    ``{"workloads", "kernels", "failed", "left"}``; ``seconds``: when to stop building.
    """
    return bundle_model(job, Path(path), seconds, target, progress)


def import_results(path: str | Path, database: str | Path | None = None) -> dict[str, object]:
    """Take what a bundle's script wrote into ``database`` (default: the user's).

    ``{"device", "records", "failed", "missing", "database"}``.  Raises ``DataError`` for other
    files and for results of another build; then nothing is written.
    """
    from .backends.codegen.tuning.bundle import read_results

    where = database_path(database)
    check_writable(where)
    found = read_results(Path(path), open_database(where))
    return vars(found) | {"database": str(where)}


def score(
    model: str | Path,
    data: str | Path,
    metric: str | None = None,
    against: str | Path | None = None,
    preprocess: str | Path | None = None,
    progress: Progress | None = None,
) -> Score:
    """The metric of a model or an artifact on DATA, judged by labels or ``against`` another one."""
    ours = open_model(model, data, preprocess)
    stream = Dataset(data, ours.specs, preprocess)
    other = None
    if against is not None:
        theirs = open_model(against, data, preprocess)
        theirs.check_like(ours)
        names = dict(zip(ours.outputs, theirs.outputs, strict=True))
        other = _renamed(theirs.run, names)
    return scoring.score(ours.run, ours.outputs, stream, metric, other, progress)


def _renamed(run: scoring.Run, names: Mapping[str, str]) -> scoring.Run:
    """``run`` with its outputs under the names of another model, in order."""

    def call(feed: Mapping[str, Array]) -> Mapping[str, Array]:
        found = run(feed)
        return {ours: found[theirs] for ours, theirs in names.items()}

    return call


def bench(
    artifact: str | Path,
    against: Iterable[str] = (),
    threads: int = 1,
    model: str | Path | None = None,
    seconds: float = 3.0,
    progress: Progress | None = None,
    device: str | None = None,
) -> dict[str, object]:
    """Median latencies of interleaved runs in this process, in milliseconds.

    ``{"threads", "artifact_ms", "peers": {"onnxruntime-float", "onnxruntime-int8"}}``.  ``model``:
    the
    float model for the peers (default: the one the artifact was compiled from, if it is still
    there).  ``device``: HOST:PORT of the machine that runs it, by whose own clock it is timed.
    """
    from .scoring.peers import bench_artifact

    return bench_artifact(Path(artifact), list(against), threads, model, seconds, progress, device)
