"""Kernels for a CUDA device as something to time: source, operands, and what they must give."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....targets.target import Target
from ..cuda.device_program import BLOB, text_of
from ..cuda.nvcc import check
from ..cuda.source import Source, Translate
from ..link import compiler, run_compiler
from ..memory import ALIGNMENT
from ..template import TemplateKernel
from .expected import expected
from .trial import MOST, Trial, braced, operands_of

_APART = 256
"""What the places of operands are multiples of."""

_FILES = {"text": "cu", "code": "cubin"}


@dataclass(frozen=True)
class DeviceCompile:
    """The source of ``kernel`` as ``name``; with ``arch`` also its machine code by nvcc."""

    kernel: TemplateKernel
    name: str
    target: dict[str, object]
    arch: str

    def __call__(self) -> tuple[Source, bytes]:
        """Translate and compile; raises ``BackendError`` with what nvcc says against it."""
        count = len(operands_of(self.kernel))
        source = Translate(self.kernel, self.name, self.target, (ALIGNMENT,) * count)()
        if not self.arch:
            return source, b""
        with tempfile.TemporaryDirectory(prefix="qc-nvcc-") as scratch:
            return source, check(text_of_kernel(source), self.arch, Path(scratch)).image


@dataclass(frozen=True, kw_only=True)
class DeviceTrial(Trial):
    """A translated kernel; ``object`` is its machine code, if there is any."""

    kernel: TemplateKernel
    source: Source


def device_trial(kernel: TemplateKernel, compiled: tuple[Source, bytes]) -> DeviceTrial:
    """What is timed of a kernel."""
    source, image = compiled
    operands = operands_of(kernel)
    return DeviceTrial(image, source.blocks, operands, kernel=kernel, source=source)


def text_of_kernel(source: Source) -> str:
    """A kernel as CUDA source of its own."""
    return text_of("prelude.cuh") + source.text


def link_device_trials(trials: Mapping[str, Trial], folder: Path, target: Target) -> Path:
    """The program that times kernels on a device with their operands inside; the file's path."""
    ours = [t for t in trials.values() if isinstance(t, DeviceTrial)]
    assert len(ours) == len(trials) > 0
    data = _Data()
    rows = [data.row(trial) for trial in ours]
    (folder / "data.bin").write_bytes(data.bytes())
    for k, trial in enumerate(ours):
        (folder / f"{k}.cu").write_text(text_of_kernel(trial.source))
        (folder / f"{k}.cubin").write_bytes(trial.object)
    declared = _declared(ours, rows, target.arch)
    parts = [text_of("driver.h"), declared, text_of("driver.c"), text_of("measure.c")]
    (folder / "trials.c").write_text("\n".join(parts))
    command = [*compiler(target.link), "-O1", "-s", "-o", "trials", "trials.c", "-ldl", "-lm"]
    run_compiler(command, folder)
    return folder / "trials"


@dataclass(frozen=True)
class _Row:
    """Where the operands of a kernel lie, and its result; how far reals may be off."""

    operands: list[int]
    result: int
    size: int
    near: float


class _Data:
    """Arrays one behind the other, equal ones once."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._end = 0

    def row(self, trial: DeviceTrial) -> _Row:
        """Take in what a kernel reads, and what it must give."""
        wanted = expected(trial.kernel.workload)
        operands = [self._place(a.tobytes()) for a in wanted.arranged(trial.kernel)]
        result = self._place(wanted.y.tobytes())
        return _Row(operands, result, wanted.y.nbytes, wanted.near)

    def _place(self, array: bytes) -> int:
        if array not in self._places:
            self._places[array] = self._end
            self._end = -(-(self._end + len(array) + ALIGNMENT) // _APART) * _APART
        return self._places[array]

    def bytes(self) -> bytes:
        """All of them at their places."""
        whole = np.zeros(self._end, np.uint8)
        for array, place in self._places.items():
            whole[place : place + len(array)] = np.frombuffer(array, np.uint8)
        return whole.tobytes()


def _declared(trials: Sequence[DeviceTrial], rows: Sequence[_Row], arch: str) -> str:
    """The generated part of ``measure.c``."""
    numbers = range(len(trials))
    files = {f"qc_{kind}_{k}": f"{k}.{end}" for k in numbers for kind, end in _FILES.items()}
    blobs = "\n".join(f'QC_BLOB("{name}", "{file}")' for name, file in files.items())
    table = (f'{{"{t.source.name}", {t.source.blocks}, 1, {t.source.threads}}}' for t in trials)
    codes = (f"qc_code_{k}" if t.object else "NULL" for k, t in enumerate(trials))
    assert all(len(r.operands) < MOST for r in rows)
    return f"""{BLOB}{blobs}
QC_BLOB("qc_data", "data.bin")
extern const unsigned char qc_data[], qc_data_end[];
extern const char {", ".join(f"{name}[]" for name in files)};
enum {{ qc_count = {len(trials)}, qc_arch = {arch.removeprefix("sm_")} }};
static const struct qc_kernel qc_table[] = {braced(table)};
static const int qc_pointers[] = {braced(len(r.operands) + 1 for r in rows)};
static const size_t qc_offset[][{MOST}] = {braced(braced(r.operands) for r in rows)};
static const size_t qc_result[] = {braced(r.result for r in rows)};
static const size_t qc_size[] = {braced(r.size for r in rows)};
static const float qc_near[] = {braced(r.near for r in rows)};
static const char *const qc_text[] = {braced(f"qc_text_{k}" for k in numbers)};
static const char *const qc_code[] = {braced(codes)};
"""
