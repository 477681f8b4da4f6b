"""Tuning a machine that no network reaches: built kernels go there as a file, times come back.

A bundle is a tar of programs, one for each workload, with a shell script that runs them.  What it
writes holds everything that the records need.  The programs need no shared libraries; those for
CUDA need a glibc no older than this machine's, and hold source, machine code where nvcc was here,
operands, and the results that kernels must give.
"""

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from ....ir.errors import DataError
from ....targets.target import Target
from ..pool import Pool
from ..template import TemplateKernel, candidates
from .candidate import job_of, link_program, trial_of
from .measurer import parse
from .records import Database, Record, Setting
from .search import Progress, distinct
from .trial import Trial

FORMAT = 1
MOST = 24
"""Kernels of a workload in a bundle for a cpu, the best by estimate; of CUDA all are there."""

_ROOT = "qc-bundle"
_SCRIPT = Path(__file__).parent / "bundle.sh"


@dataclass(frozen=True)
class Packed:
    """What a bundle holds; ``left``: workloads that there was no time for."""

    workloads: int
    kernels: int
    failed: int
    left: int


def write_bundle(
    path: Path,
    workloads: Mapping[TemplateKernel, int],
    target: Target,
    pool: Pool,
    seconds: float,
    progress: Progress,
) -> Packed:
    """Build the kernels of ``workloads``, those that take longest first, for ``seconds``."""
    deadline = monotonic() + seconds
    order = sorted(distinct(workloads).items(), key=lambda item: -item[1] * item[0].cost)
    progress.start(f"build {len(order)} workloads", len(order))
    setting = Setting.of(target)
    programs: dict[str, list[dict[str, object]]] = {}
    failed = built = done = 0
    with tempfile.TemporaryDirectory(prefix="qc-bundle-") as scratch:
        archive = Path(scratch) / "bundle.tar"
        with tarfile.open(archive, "w") as tar:
            for number, (kernel, _) in enumerate(order):
                if monotonic() > deadline:
                    break
                kernels = candidates(kernel.workload, kernel.features)
                kernels = kernels if target.arch else kernels[:MOST]
                trials = dict(_compiled(kernels, target, pool))
                failed += len(kernels) - len(trials)
                done += 1
                progress.advance()
                if not trials:
                    continue
                name = f"{number:03d}"
                folder = Path(scratch) / name
                folder.mkdir()
                named = {f"qc_trial_{i}": trial for i, trial in enumerate(trials.values())}
                program = link_program(named, folder, target, alone=True)
                _add(tar, f"programs/{name}", program.read_bytes(), 0o755)
                programs[name] = [_description(setting, k) for k in trials]
                built += len(trials)
            table = {
                "qc": FORMAT,
                "target": target.name,
                "setting": asdict(setting),
                "programs": programs,
            }
            _add(tar, "bundle.json", json.dumps(table).encode(), 0o644)
            _add(tar, "run.sh", _SCRIPT.read_bytes(), 0o755)
        path.write_bytes(archive.read_bytes())
    return Packed(len(programs), built, failed, len(order) - done)


def _compiled(
    kernels: Sequence[TemplateKernel], target: Target, pool: Pool
) -> Iterator[tuple[TemplateKernel, Trial]]:
    """Those that compile, in order."""
    names = {f"qc_trial_{i}": kernel for i, kernel in enumerate(kernels)}
    jobs = {name: job_of(kernel, name, target) for name, kernel in names.items()}
    results = dict(pool.results(jobs))
    for name, kernel in names.items():
        if not isinstance(results[name], str):
            yield kernel, trial_of(kernel, results[name], target)


def _description(setting: Setting, kernel: TemplateKernel) -> dict[str, object]:
    """A record without a time."""
    record = json.loads(Record.of(setting, "", kernel, "not measured").line())
    return {key: record[key] for key in ("workload", "template", "knobs")}


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(f"{_ROOT}/{name}")
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


@dataclass(frozen=True)
class Imported:
    """What came back from a device."""

    device: str
    records: int
    failed: int
    missing: int


def read_results(path: Path, database: Database) -> Imported:
    """Take the times that a bundle's script wrote into ``database``.

    Raises ``DataError`` for what is no such file, and for kernels of another build.
    """
    try:
        table = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"results {str(path)!r} cannot be read: {error}") from error
    try:
        bundle, runs, device = table["bundle"], dict(table["runs"]), str(table["device"]).strip()
        if bundle["qc"] != FORMAT:
            raise ValueError(f"format {bundle['qc']!r}")
        setting = Setting.parse(bundle["setting"])
        programs: dict[str, list[dict[str, Any]]] = {
            str(name): [dict(kernel) for kernel in kernels]
            for name, kernels in bundle["programs"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"results {str(path)!r} are not of a bundle of qc tune --bundle: {error!r}"
        ) from error
    _check_build(setting, path)
    _check_device(setting, device, path)
    records, missing = [], 0
    for name, kernels in programs.items():
        if name not in runs:
            missing += len(kernels)
            continue
        for k, timing in enumerate(_timings(str(runs[name]), len(kernels), path)):
            records.append(_record(setting, f"bundle {device}", kernels[k], timing, path))
    if unknown := runs.keys() - programs.keys():
        raise DataError(f"results {str(path)!r}: no program {min(unknown)!r} in the bundle")
    database.add(records)
    return Imported(device, len(records), sum(1 for r in records if r.error), missing)


def _check_build(setting: Setting, path: Path) -> None:
    from importlib.metadata import version

    from ..kernels import VERSION

    ours = (VERSION, version("apache-tvm"))
    if (setting.templates, setting.tvm) != ours:
        raise DataError(
            f"results {str(path)!r} are of another build: kernels {setting.templates} by TVM "
            f"{setting.tvm}, here {ours[0]} by TVM {ours[1]}; make the bundle again"
        )


def _check_device(setting: Setting, device: str, path: Path) -> None:
    """Times of a CUDA device are of its architecture."""
    kind, _, arch = setting.cpu.partition(" ")
    if kind == "cuda" and device.split()[-1:] != [arch]:
        raise DataError(
            f"results {str(path)!r} are of {device!r}, and the bundle was for {arch}: make one for "
            "a target with the arch of that device"
        )


def _timings(text: str, count: int, path: Path) -> list[float | str]:
    try:
        outcome = parse(text.split(";")[:-1])  # what follows the last one is cut
    except ValueError as error:
        raise DataError(f"results {str(path)!r} are damaged: {error}") from error
    return [outcome.timing(k) for k in range(count)]


def _record(
    setting: Setting, measurer: str, kernel: Mapping[str, Any], timing: float | str, path: Path
) -> Record:
    """The kernels of a program were timed together: their times decide."""
    failed = isinstance(timing, str)
    table = {
        **kernel, "qc": FORMAT, "setting": asdict(setting), "measurer": measurer, "final": True,
        "seconds": None if failed else timing, "error": timing if failed else "",
    }  # fmt: skip
    try:
        return Record.parse(json.dumps(table))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"results {str(path)!r} are damaged: {error}") from error
