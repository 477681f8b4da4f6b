"""The whole path from a model to an artifact: load, passes, portable ONNX, code, report."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from .costs import cost_on
from .data.columns import columns
from .data.dataset import Dataset, Feeds, InputSpec, known_shapes, specs_of
from .decoding import Decoding, check_causal, decoding_of
from .gradients import TorchGradients
from .ir.errors import ContractError, DataError, PreconditionError, nearest
from .ir.evaluate import evaluate
from .ir.graph import Graph
from .ir.hashes import sha256
from .ir.ops.quantize import Quantize
from .job import Job
from .loading import load_concrete
from .measurers import check_measurer, check_taken, facts_of, measurer_here, note_on_measurers
from .passes.allocate_bits import AllocateBits
from .passes.base import Kind, Pass
from .passes.context import Context, Cost
from .passes.ledger import Ledger
from .passes.manager import PassManager
from .passes.quantize import QuantizeStatic
from .passes.recipe import Recipe, default_recipe, load_recipe
from .progress import Progress, Silent
from .reporting.layers import describe, islands, tolerance_db
from .reporting.notes import notes_on_bits, notes_on_code, notes_on_recipe
from .reporting.provenance import versions
from .reporting.report import Facts, Report
from .scoring import runs as scoring
from .scoring.judge import Judge
from .targets import Target, missing_features
from .targets import load as load_target
from .tuning import (
    HERE,
    TEMPLATES,
    check_searcher,
    check_writable,
    database_path,
    open_database,
    tune_graph,
)

if TYPE_CHECKING:
    from .backends.codegen.tuning.choices import Choices

log = logging.getLogger(__name__)

QDQ_MODEL = "model.qdq.onnx"


@dataclass
class Stages:
    """The graph before it was quantized, before it was folded to integers, and in the end."""

    real: Graph
    quantized: Graph
    folded: Graph


def compile_to(
    job: Job, directory: Path, progress: Progress | None = None, name: str = ""
) -> Report:
    """Compile into an existing empty ``directory``; the report, which is also written there.

    Everything that can be refused is refused before the long work begins.
    """
    from .backends.codegen.link import check_linkers
    from .backends.codegen.tuning.choices import Choices

    started = perf_counter()
    show = progress or Silent()
    target = load_target(job.target)
    target.check_available()
    check_linkers(target)
    path = database_path(job.database)
    if job.measured_on and (job.tune is not None or job.where != HERE):
        raise DataError(
            "--tune and --device measure kernels, --measured-on takes other times: give one"
        )
    database = open_database(path)
    wanted = check_measurer(job.measured_on, target, database)
    measures = job.measures(target) and wanted in ("", measurer_here(target))
    if measures:
        check_writable(path)
        check_searcher(job.searcher, job.where, target)
        job.where.check(target)
    elif job.where != HERE:
        raise DataError("--device says where to measure: give --tune SECONDS with it")
    if job.tune is None and job.searcher != TEMPLATES:
        raise DataError("--searcher says how to tune: give --tune SECONDS with it")
    with ExitStack() as stack:
        measurer = None
        if measures:
            measurer = stack.enter_context(job.where.measurer(target))
        cost = stack.enter_context(cost_on(target, database, measurer, wanted))
        prepared = prepare(job, target, cost, show)
        stages = prepared.stages
        decoding = _decoding(job, prepared, show)
        if measurer is not None and job.tune is not None:
            tuned = stages.folded if decoding is None else decoding.step
            tune_graph(tuned, target, database, measurer, job.tune, show, job.searcher)
    who = wanted or (measurer.name if measurer is not None else measurer_here(target))
    choices = Choices(target, database, who)
    manifest = _write(stages, decoding, target, directory, show, choices)
    check_taken(choices, wanted)
    report = _report(job, prepared, target)
    report.notes += notes_on_code(manifest, target) + note_on_measurers(choices)
    report.notes += [] if decoding is None else [decoding.note]
    whole = stages.folded if decoding is None else decoding.whole
    report.check = _check_code(directory, prepared, whole, target, show)
    if "reference" in manifest:
        report.check = None  # what was checked is the files
    else:
        report.tuning = facts_of(choices)
    if (judge := prepared.judge) is not None:
        report.evaluation = judge.verdict(directory, whole, target, report.ledger)
    report.artifact = name
    report.seconds = round(perf_counter() - started, 3)
    report.write(directory)
    show.done()
    return report


@dataclass(frozen=True)
class Prepared:
    """A network after all passes, and what they ran with."""

    recipe: Recipe
    context: Context
    judge: Judge | None
    manager: PassManager
    stages: Stages
    ledger: Ledger


def prepare(job: Job, target: Target, cost: Cost | None, show: Progress) -> Prepared:
    """Load the network and run all passes; ``cost`` says what is faster in float."""
    recipe = job.load_recipe()
    if recipe.needs_calibration and job.calibration is None:
        raise DataError(f"recipe {recipe.name!r} needs calibration data; give --calib DATA")
    show.start("load model")
    graph = load_concrete(job.model, job.input_shapes, lambda specs: _shown(job, specs))
    if job.recipe is None and is_quantized(graph):
        recipe = load_recipe(default_recipe(False, quantized=True), job.options)
        log.info("the network is quantized already: recipe %r", recipe.name)
    _check_patterns(job, graph)
    if job.capacity is not None:
        check_causal(graph, job.capacity)
    specs = specs_of(graph)
    judge = _judge(job, graph, specs, show)
    context = _context(job, target, specs, judge, show)
    context.cost = cost
    passes = recipe.passes
    if judge is not None and judge.max_drop is not None:
        context.accuracy, passes = judge, with_allocation(passes)
    manager, stages, ledger = _run_passes(graph, passes, context)
    return Prepared(recipe, context, judge, manager, stages, ledger)


def with_allocation(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """``passes``, with one that decides on bits in front of the one that quantizes, if it can."""
    at = _first(passes, lambda p: isinstance(p, QuantizeStatic))
    if at == len(passes) or any(isinstance(p, AllocateBits) for p in passes):
        return tuple(passes)
    return (*passes[:at], AllocateBits(), *passes[at:])


def _decoding(job: Job, prepared: Prepared, progress: Progress) -> Decoding | None:
    if job.capacity is None:
        return None
    from .backends.codegen.reference import formats_of

    progress.start("token by token")
    folded = prepared.stages.folded
    if found := formats_of(folded):
        raise PreconditionError(
            f"a decoder (--capacity) needs code, and {found[0]} has no kernel yet; "
            "take a recipe of integers, as int8-dynamic"
        )
    return decoding_of(folded, job.capacity, prepared.context.probes(folded)[0])


def is_quantized(graph: Graph) -> bool:
    """Whether a loaded network holds codes of activations."""
    return any(isinstance(node.op, Quantize) for node in graph.nodes)


def _check_patterns(job: Job, graph: Graph) -> None:
    names = [node.name for node in graph.nodes]
    for pattern in job.keep_float:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise DataError(
                f"--keep-float {pattern!r} matches no layer; {nearest(pattern, names)} "
                "(qc inspect MODEL lists all)"
            )


def _shown(job: Job, specs: Sequence[InputSpec]) -> dict[str, tuple[int, ...]]:
    """Shapes of symbolic inputs as calibration (else evaluation) data show them."""
    data = job.calibration if job.calibration is not None else job.evaluation
    if data is None:
        return {}
    if isinstance(data, str | Path):
        found = columns(data, [s.name for s in specs], job.preprocess)
        return known_shapes(found, specs)
    first = next(iter(data), {})
    return {s.name: first[s.name].shape for s in specs if s.name in first}


def _context(
    job: Job, target: Target, specs: Sequence[InputSpec], judge: Judge | None, progress: Progress
) -> Context:
    from .backends.qdq.executor import OnnxRuntimeExecutor

    calibration: Dataset | Feeds | None = None
    if isinstance(job.calibration, str | Path):
        calibration = Dataset(job.calibration, specs, job.preprocess)
    elif job.calibration is not None:
        calibration = Feeds(job.calibration, specs)
    return Context(
        target=target,
        calibration=calibration,
        evaluate=judge.measure if judge is not None else None,
        executor=OnnxRuntimeExecutor(),
        gradients=TorchGradients(job.seed),
        seed=job.seed,
        verify=job.verify,
        progress=progress,
        keep_float=tuple(job.keep_float),
    )


def _run_passes(
    graph: Graph, passes: Sequence[Pass], context: Context
) -> tuple[PassManager, Stages, Ledger]:
    """Run all passes; keep the graph before the first that quantizes and the first that lowers.

    Without one that quantizes nothing is lost before the lowering one.
    """
    PassManager(passes).check_order(graph.properties)
    lowers = _first(passes, lambda p: p.kind is Kind.LOWERING)
    coded = min(_first(passes, lambda p: "quantized" in p.establishes), lowers)
    manager = PassManager(passes[:coded], passes[coded:])
    real, ledger = manager.run(graph, context)
    manager.passes, manager.later = passes[coded:lowers], passes[lowers:]
    quantized, ledger = manager.run(real, context, ledger)
    manager.passes, manager.later, context.evaluate = passes[lowers:], (), None
    folded, ledger = manager.run(quantized, context, ledger)
    return manager, Stages(real, quantized, folded), ledger


def _first(passes: Sequence[Pass], wanted: Callable[[Pass], bool]) -> int:
    return next((i for i, p in enumerate(passes) if wanted(p)), len(passes))


def _write(
    stages: Stages,
    decoding: Decoding | None,
    target: Target,
    directory: Path,
    progress: Progress,
    choices: Choices,
) -> Facts:
    """Everything but the report; the manifest."""
    from .backends.codegen.build import compile_graph
    from .backends.codegen.reference import formats_of, reference_manifest
    from .backends.qdq.unsigned import unsigned_weights
    from .backends.qdq.writer import save as save_onnx
    from .ir.text import save

    save_onnx(unsigned_weights(stages.quantized), directory / QDQ_MODEL)
    save(stages.folded if decoding is None else decoding.whole, directory)
    if formats_of(stages.folded):
        manifest = reference_manifest(stages.folded, target)
    else:
        graph, prompt = stages.folded, None
        if decoding is not None:
            graph, prompt = decoding.step, decoding.prompt
        built = compile_graph(graph, target, _stages_of(progress), choose=choices, prompt=prompt)
        built.write(directory)
        manifest = built.manifest if decoding is None else {**built.manifest, **decoding.facts()}
    write_manifest(directory, manifest)
    return manifest


def _check_code(
    directory: Path, prepared: Prepared, graph: Graph, target: Target, progress: Progress
) -> Facts | None:
    """The contract of code generation, on one feed; None where the code cannot run here.

    Raises ``ContractError`` where the code does not give the values of the numpy reference.
    """
    if missing_features(target) and not target.emulated:
        return None
    from .backends.codegen.artifact import Artifact

    progress.start("check code")
    probe = prepared.context.probes(graph)[0]
    feed = {v.name: np.asarray(probe[v.name][tuple(map(slice, v.shape))]) for v in graph.inputs}
    found = scoring.Difference()
    found.update(Artifact.load(directory).run(feed), evaluate(graph, feed))
    rows = [row.as_json() for row in prepared.ledger.rows]
    if not found.passes(bool(islands(graph)), tolerance_db(graph, rows)):
        raise ContractError(
            f"code generation for {target.name!r}: {found}; a bug of qc: please report it"
        )
    return {"samples": 1, "values": found.values, "differing": found.differing, "text": str(found)}


def write_manifest(directory: Path, manifest: Facts) -> None:
    """Write the manifest with the hashes of the network's files.

    The report holds times and is left out, so that equal inputs give an equal manifest.
    """
    from .backends.codegen.artifact import MANIFEST
    from .backends.codegen.build import hashes

    found = {k: v for k, v in hashes(directory).items() if not k.startswith("report.")}
    manifest = {**manifest, "files": found}
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _stages_of(progress: Progress) -> Callable[[str, int, int], None]:
    """Code generation reports ``(stage, done, total)``: the same as stages with steps."""
    at: dict[str, int] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in at:
            progress.start(f"generate {stage}", total)
        progress.advance(done - at.get(stage, 0))
        at[stage] = done

    return report


def _judge(job: Job, graph: Graph, specs: Sequence[InputSpec], progress: Progress) -> Judge | None:
    if job.evaluation is None:
        if job.max_drop is not None:
            raise DataError("--max-drop needs evaluation data; give --eval DATA")
        return None
    data = Dataset(job.evaluation, specs, job.preprocess)
    return Judge(graph, data, scoring.default_name(data, True), job.max_drop, progress)


def _report(job: Job, prepared: Prepared, target: Target) -> Report:
    recipe, stages, context = prepared.recipe, prepared.stages, prepared.context
    last = prepared.ledger.rows[-1]
    path = Path(job.model) if isinstance(job.model, str | Path) else None
    return Report(
        artifact="",
        model=path.name if path else stages.folded.name,
        target=target.name,
        recipe=recipe.name,
        parameters=last.parameters,
        macs=last.macs,
        bytes=last.bytes,
        source=_source(path),
        machine={"target cpu": target.cpu, "compiled on": platform.machine()},
        versions=versions(),
        calibration=_calibration(context),
        notes=notes_on_recipe(job, recipe) + notes_on_bits(prepared.ledger.rows),
        ledger=[row.as_json() for row in prepared.ledger.rows],
        layers=describe(
            stages.real, stages.quantized, stages.folded, context, prepared.ledger.layers
        ),
        pruned=[asdict(p) for p in context.pruned],
        equalized=[asdict(e) for e in context.equalized],
    )


def _source(path: Path | None) -> Facts:
    """Where the model was; nothing for one in memory, no hash for ``module:callable``."""
    if path is None:
        return {}
    if not path.is_file():
        return {"model": str(path)}
    return {"model": str(path.resolve()), "sha256": sha256(path)}


def _calibration(context: Context) -> Facts | None:
    data = context.calibration
    if isinstance(data, Dataset):
        return {"data": data.path.name, "samples": data.samples}
    return None if data is None else {"data": "given by a program", "samples": sum(1 for _ in data)}
