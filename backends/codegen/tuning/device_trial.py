"""Kernels for a CUDA device as something to time: source, operands, and what they must give."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....targets.target import Target
from ..cuda.batches import Batch
from ..cuda.device_program import BLOB, text_of
from ..cuda.nvcc import check
from ..cuda.source import Source, Translate
from ..layout import round_up
from ..link import compiler, run_compiler
from ..memory import ALIGNMENT
from ..program import Kernel
from ..template import TemplateKernel
from .expected import expected
from .trial import MOST, Trial, braced, operands_of

_OF_SAMPLES = 0, 4
"""The places of the image and of the residual among operands; the result is the last one."""

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
        kernel: Kernel = self.kernel
        steps, samples = steps_of(self.kernel), self.kernel.workload.samples
        if samples > 1:
            kernel = Batch(kernel, samples, steps)
        source = Translate(kernel, self.name, self.target, (ALIGNMENT,) * len(steps))()
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


def steps_of(kernel: TemplateKernel) -> tuple[int, ...]:
    """Bytes from an operand of a sample to that of the next one; 0 where all have the same."""
    sizes, (x, residual) = [o.bytes for o in operands_of(kernel)], _OF_SAMPLES
    moved = {x, len(sizes) - 1} | ({residual} if kernel.workload.residual is not None else set())
    return tuple(round_up(n, ALIGNMENT) if i in moved else 0 for i, n in enumerate(sizes))


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
    declared = _declared(ours, rows, data, target.arch)
    parts = [text_of("driver.h"), declared, text_of("driver.c"), text_of("measure.c")]
    (folder / "trials.c").write_text("\n".join(parts))
    command = [*compiler(target.link), "-O1", "-s", "-o", "trials", "trials.c", "-ldl", "-lm"]
    run_compiler(command, folder)
    return folder / "trials"


@dataclass(frozen=True)
class _Row:
    """Where the operands of a kernel lie on the device, and in the data what it must make of a
    sample, whose results are ``step`` bytes apart; how far reals may be off.
    """

    operands: list[int]
    result: int
    size: int
    step: int
    near: float


class _Data:
    """Arrays one behind the other, equal ones once; on the device once for every sample.

    ``parts``: where on the device an array lies, by its place in the data, its bytes, how often it
    is there, and how far apart.
    """

    def __init__(self) -> None:
        self.parts: dict[tuple[int, int, int, int], int] = {}
        self._kept: dict[bytes, int] = {}
        self._end = self.room = 0

    def row(self, trial: DeviceTrial) -> _Row:
        """Take in what a kernel reads, and what it must give."""
        kernel, wanted = trial.kernel, expected(trial.kernel.workload)
        *steps, step = steps_of(kernel)
        arrays = zip(wanted.arranged(kernel), steps, strict=True)
        copies = kernel.workload.samples
        operands = [self._place(a.tobytes(), copies if s else 1, s) for a, s in arrays]
        return _Row(operands, self._keep(wanted.y.tobytes()), wanted.y.nbytes, step, wanted.near)

    def _keep(self, array: bytes) -> int:
        if array not in self._kept:
            self._kept[array] = self._end
            self._end = _behind(self._end + len(array))
        return self._kept[array]

    def _place(self, array: bytes, copies: int, step: int) -> int:
        part = self._keep(array), len(array), copies, step
        if part not in self.parts:
            self.parts[part] = self.room
            self.room = _behind(self.room + step * (copies - 1) + len(array))
        return self.parts[part]

    def bytes(self) -> bytes:
        """All of them at their places."""
        whole = np.zeros(self._end, np.uint8)
        for array, place in self._kept.items():
            whole[place : place + len(array)] = np.frombuffer(array, np.uint8)
        return whole.tobytes()


def _behind(end: int) -> int:
    """Where the next array begins."""
    return round_up(end + ALIGNMENT, _APART)


def _declared(trials: Sequence[DeviceTrial], rows: Sequence[_Row], data: _Data, arch: str) -> str:
    """The generated part of ``measure.c``."""
    numbers = range(len(trials))
    files = {f"qc_{kind}_{k}": f"{k}.{end}" for k in numbers for kind, end in _FILES.items()}
    blobs = "\n".join(f'QC_BLOB("{name}", "{file}")' for name, file in files.items())
    sources = [t.source for t in trials]
    table = (f'{{"{s.name}", {s.blocks}, {s.samples}, {s.threads}}}' for s in sources)
    parts = (braced((*part, at)) for part, at in data.parts.items())
    codes = (f"qc_code_{k}" if t.object else "NULL" for k, t in enumerate(trials))
    assert all(len(r.operands) < MOST for r in rows)
    return f"""{BLOB}{blobs}
QC_BLOB("qc_data", "data.bin")
extern const unsigned char qc_data[], qc_data_end[];
extern const char {", ".join(f"{name}[]" for name in files)};
enum {{ qc_count = {len(trials)}, qc_arch = {arch.removeprefix("sm_")} }};
static const struct qc_kernel qc_table[] = {braced(table)};
static const struct {{ size_t from, size, copies, step, to; }} qc_parts[] = {braced(parts)};
static const size_t qc_room = {data.room};
static const int qc_pointers[] = {braced(len(r.operands) + 1 for r in rows)};
static const size_t qc_offset[][{MOST}] = {braced(braced(r.operands) for r in rows)};
static const size_t qc_result[] = {braced(r.result for r in rows)};
static const size_t qc_size[] = {braced(r.size for r in rows)};
static const size_t qc_step[] = {braced(r.step for r in rows)};
static const float qc_near[] = {braced(r.near for r in rows)};
static const char *const qc_text[] = {braced(f"qc_text_{k}" for k in numbers)};
static const char *const qc_code[] = {braced(codes)};
"""
