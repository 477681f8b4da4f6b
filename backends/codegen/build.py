"""From an integer graph to an artifact on disk: lower, compile in parallel, link, write at once."""

import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.errors import BackendError
from ...ir.graph import Graph, Value
from ...ir.hashes import sha256
from ...targets.target import Target
from .artifact import FORMAT, LIBRARY, MANIFEST
from .decoder import PROMPT
from .emulate import STANDALONE
from .link import declare_ports, link, link_program, tiles
from .pool import Pool
from .program import Emitted, Program
from .runner import MAIN, MAIN_PARALLEL, RUN, Port, Runner
from .shares import shares_of
from .tile_registers import FILE, compile_emulator

if TYPE_CHECKING:
    from .template import Choose

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and their number."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunnerKernel:
    """The graph runner as something that the compiler pool can compile."""

    runner: Runner
    name: str

    @property
    def label(self) -> str:
        """The symbol."""
        return self.name

    def emit(self, name: str) -> Emitted:
        """The function as TIR."""
        if name == MAIN:
            return Emitted(self.runner.main(), 0, packed=True)
        parallel = name.startswith(MAIN_PARALLEL)
        return Emitted(self.runner.run(parallel, name), 0, packed=parallel)


@dataclass(frozen=True)
class Part:
    """A graph of the library, lowered: ``suffix`` ends the names of its functions."""

    graph: Graph
    program: Program
    suffix: str = ""

    @property
    def ports(self) -> list[Port]:
        """Inputs and outputs."""
        return [_port(v) for v in (*self.graph.inputs, *self.graph.outputs)]

    def functions(self, extents: Mapping[str, int]) -> dict[str, RunnerKernel]:
        """The graph's functions by symbol; the first graph has one with tensors, for TVM's API."""
        runner = Runner(self.program, self.ports, extents, shares_of(self.program, extents))
        names = [RUN + self.suffix, MAIN_PARALLEL + self.suffix, *([] if self.suffix else [MAIN])]
        return {name: RunnerKernel(runner, name) for name in names}


@dataclass(frozen=True)
class Built:
    """What compiling a graph gives: the library and what the manifest says about it."""

    library: bytes
    manifest: dict[str, Any]
    program: bytes | None = None
    tiles: bytes | None = None

    def write(self, folder: Path) -> None:
        """Write the library and what emulates it elsewhere: a program of its own, AMX's tiles."""
        (folder / LIBRARY).write_bytes(self.library)
        if self.program is not None:
            (folder / STANDALONE).write_bytes(self.program)
            (folder / STANDALONE).chmod(0o755)
        if self.tiles is not None:
            (folder / FILE).write_bytes(self.tiles)


def build(
    graph: Graph,
    target: Target,
    directory: Path,
    progress: Progress | None = None,
    extra: Mapping[str, object] | None = None,
    seconds: float = 120.0,
    pool: Pool | None = None,
) -> None:
    """Compile ``graph`` for ``target`` into the artifact ``directory``, replaced as a whole.

    ``extra`` goes into the manifest; ``seconds`` is the limit for one kernel; ``pool`` compiles
    (default: one of its own, with that limit).  Raises
    ``BackendError`` where the directory is not ours, and for what cannot be compiled.
    """
    from ...ir.text import save

    target.check_available()
    with replacing(Path(directory)) as folder:
        built = compile_graph(graph, target, progress, seconds, pool=pool)
        built.write(folder)
        save(graph, folder)
        manifest = {**built.manifest, "files": hashes(folder), **(extra or {})}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def compile_graph(
    graph: Graph,
    target: Target,
    progress: Progress | None = None,
    seconds: float = 120.0,
    choose: "Choose | None" = None,
    pool: Pool | None = None,
    prompt: Graph | None = None,
) -> Built:
    """The library and manifest of ``graph``; nothing is written but scratch files.

    ``choose`` says which kernel serves a workload (default: by estimate); ``pool``: see ``build``.
    ``prompt``: a second graph of the same library, which shares kernels, constants and workspace;
    the names of its functions end in ``_prompt``.
    """
    with ExitStack() as stack:
        pool = pool or stack.enter_context(Pool(_workers(), seconds, lasting=True))
        parts = _lowered(graph, prompt, target, choose)
        program, ports = parts[0].program, parts[0].ports
        report = None if progress is None else _stage(progress, "kernels")
        if target.arch:
            return _for_device(graph, target, program, ports, pool, report)
        users = {s: p.program.first_user(s) for p in reversed(parts) for s in p.program.symbols}
        compiled = pool.compile({**program.kernels}, target.tvm(), users.__getitem__, report)
        extents = {symbol: extent for symbol, (_, extent) in compiled.items()}
        runners = {n: f for part in parts for n, f in part.functions(extents).items()}
        mains = pool.compile({**runners}, target.tvm(), lambda _: "graph")
    objects = {name: data for name, (data, _) in {**compiled, **mains}.items()}
    with tempfile.TemporaryDirectory(prefix="qc-link-") as scratch:
        constants, flags = program.constants, tiles(target.features)
        library = link(objects, constants, Path(scratch), target.link, flags)
        emulator = compile_emulator(Path(scratch), target.link) if flags else None
        alone = None
        if target.standalone:
            plain = {k: v for k, v in objects.items() if k == RUN or k not in runners}
            sizes = [*map(_bytes, ports), max(program.arena, 64)]
            declared = declare_ports(len(graph.inputs), sizes)
            alone = link_program(plain, constants, declared, Path(scratch), target.standalone)
    log.info("%d kernels, %d calls, arena %d", len(compiled), len(program.calls), program.arena)
    return Built(library, _manifest(graph, target, program), alone, emulator)


def _for_device(
    graph: Graph,
    target: Target,
    program: Program,
    ports: list[Port],
    pool: Pool,
    progress: Callable[[int, int], None] | None,
) -> Built:
    """The same for a CUDA device."""
    from .cuda.build import compile_program

    code = compile_program(program, ports, [*map(_bytes, ports)], target, pool, progress)
    log.info("%d kernels, %d launches; %s", len(program.kernels), code.launches, code.checked.text)
    cuda = {
        "arch": target.arch,
        "code": code.checked.text,
        "device_bytes": code.device_bytes,
        "launches": code.launches,
    }
    manifest = {**_manifest(graph, target, program), "workspace_bytes": 64, "cuda": cuda}
    return Built(code.library, manifest, code.program)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of all files of an artifact but the manifest."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != MANIFEST)
    return {p.name: sha256(p) for p in files}


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A scratch directory beside ``directory`` that takes its place when all went well.

    Raises ``BackendError`` for a destination that exists and holds no manifest of ours.
    """
    check_destination(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise BackendError(f"cannot write {str(directory)!r}: {error.strerror}") from error
    try:
        yield scratch
        os.chmod(scratch, 0o755)
        _swap(scratch, directory)
    except OSError as error:
        raise BackendError(f"cannot write {str(directory)!r}: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_destination(directory: Path) -> None:
    """``BackendError`` unless ``directory`` is absent, empty or an artifact of ours."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise BackendError(f"{str(directory)!r} exists and is no directory")
    if any(directory.iterdir()) and not _is_ours(directory / MANIFEST):
        raise BackendError(
            f"{str(directory)!r} exists and holds no manifest of ours; choose another output folder"
        )


def _is_ours(manifest: Path) -> bool:
    try:
        found = json.loads(manifest.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "qc" in found


def _swap(scratch: Path, directory: Path) -> None:
    if not directory.exists():
        scratch.rename(directory)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.old.", dir=directory.parent))
    directory.rename(old / "was")
    try:
        scratch.rename(directory)
    except OSError:
        (old / "was").rename(directory)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _lowered(
    graph: Graph, prompt: Graph | None, target: Target, choose: "Choose | None"
) -> list[Part]:
    """The graphs of the library; all have the workspace of the one that needs most."""
    from .lower import lower
    from .template import by_estimate, shared

    for value in (*graph.inputs, *graph.outputs):
        _port(value)
    parts = [Part(graph, lower(graph, target.features, choose or by_estimate))]
    if prompt is not None:
        more = parts[0].program.sibling()
        lower(prompt, target.features, choose or by_estimate, program=more)
        parts.append(Part(prompt, more, PROMPT))
    parts = [replace(part, program=shared(part.program)) for part in parts]
    arena = max(part.program.arena for part in parts)
    for part in parts:
        part.program.arena = arena
    return parts


def _port(value: Value) -> Port:
    try:
        return Port(value.name, value.type.dtype, value.shape)
    except ValueError as error:
        raise BackendError(f"%{value.name}: {error}; bind it to a number first") from error


def _bytes(port: Port) -> int:
    return math.prod(port.shape) * np.dtype(port.dtype).itemsize


def _manifest(graph: Graph, target: Target, program: Program) -> dict[str, Any]:
    facts = {
        "weight_bytes": program.weights,
        "constant_bytes": program.constants.stored,
        "unpacked_bytes": program.constants.room,
        "workspace_bytes": max(program.arena, 64),
        "peak_activation_bytes": program.arena,
        "kernels": len(program.kernels),
        "calls": len(program.calls),
    }
    return manifest_of(graph, target, facts)


def manifest_of(graph: Graph, target: Target, facts: Mapping[str, object]) -> dict[str, Any]:
    """The manifest of a graph: its ports, the target, versions, and ``facts`` of its code."""

    def table(values: list[Value]) -> list[dict[str, object]]:
        return [{"name": v.name, "dtype": v.type.dtype, "shape": list(v.shape)} for v in values]

    return {
        "qc": FORMAT,
        "inputs": table(graph.inputs),
        "outputs": table(graph.outputs),
        "target": {
            "name": target.name,
            "triple": target.triple,
            "cpu": target.cpu,
            "emulator": list(target.emulator),
        },
        "features": sorted(target.required),
        "versions": {n: version(n) for n in ("apache-tvm", "apache-tvm-ffi", "numpy")},
        **facts,
    }


def _workers() -> int:
    return max(1, min(os.cpu_count() or 1, 8))


def _stage(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)
