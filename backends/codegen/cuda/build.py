"""From a lowered program to host code with CUDA kernels inside, and the same network emulated."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import gcd
from pathlib import Path

from ....ir.errors import BackendError
from ....targets.target import Target
from ..buffer import Storage
from ..link import compiler, declare_ports, run_compiler
from ..memory import ALIGNMENT
from ..pool import Pool
from ..program import Emitted, Pointer, Program
from ..regions import unrolled
from ..runner import Port, Runner
from .batches import Batch, batched
from .device_program import PREPARE, SEQUENCE, DeviceProgram, text_of
from .nvcc import Checked, check
from .source import Source, Translate

_EMULATION = (
    "-O1", "-std=c++17", "-fno-exceptions", "-fno-rtti", "-fno-strict-aliasing", "-fwrapv",
    "-ffp-contract=off", "-w",
)  # fmt: skip


@dataclass(frozen=True)
class Launches:
    """Launches in their order, as something that the compiler pool can compile."""

    runner: Runner
    label: str

    def emit(self, name: str) -> Emitted:
        """The function as TIR."""
        return Emitted(self.runner.run(False, name), 0)


@dataclass(frozen=True)
class DeviceCode:
    """The library, the program that emulates the device, and what is known of the kernels."""

    library: bytes
    program: bytes
    checked: Checked
    device_bytes: int
    launches: int


def compile_program(
    program: Program,
    ports: Sequence[Port],
    sizes: Sequence[int],
    target: Target,
    pool: Pool,
    progress: Callable[[int, int], None] | None = None,
) -> DeviceCode:
    """Translate all kernels and link; ``sizes`` are the ports' bytes.

    Raises ``BackendError`` for what cannot be translated, compiled or linked.
    """
    calls = unrolled(program.calls, program.regions)
    program = batched(replace(program, calls=calls, regions=[]))
    sources = _translated(program, target, pool, progress)
    host = target.tvm()["host"]
    assert isinstance(host, dict)
    phases = {SEQUENCE: program, PREPARE: replace(program, calls=program.once)}
    launches = {
        name: Launches(Runner(phase, ports, dict.fromkeys(sources, 0)), name)
        for name, phase in phases.items()
    }
    made = pool.compile(launches, host, lambda _: "graph")
    objects = {name: data for name, (data, _) in made.items()}
    device = DeviceProgram(program, sources, sizes, target.arch, objects)
    with tempfile.TemporaryDirectory(prefix="qc-cuda-") as scratch:
        return _linked(device, target, Path(scratch))


def _translated(
    program: Program, target: Target, pool: Pool, progress: Callable[[int, int], None] | None
) -> Mapping[str, Source]:
    alignments = _alignments(program)
    jobs = {
        symbol: Translate(kernel, f"{symbol}_kernel", target.tvm(), alignments[symbol])
        for symbol, kernel in program.kernels.items()
    }  # the symbol itself is the function that launches it
    done: dict[str, Source] = {}
    for symbol, result in pool.results(jobs):
        if isinstance(result, str):
            node = program.first_user(symbol)
            raise BackendError(f"kernel {symbol} of node {node!r}: {result}")
        done[symbol] = result
        if progress is not None:
            progress(len(done), len(jobs))
    return {symbol: done[symbol] for symbol in program.kernels}


def _alignments(program: Program) -> dict[str, tuple[int, ...]]:
    """What all calls of a kernel have in common, by its symbol: every part of memory is aligned."""
    found: dict[str, tuple[int, ...]] = {}
    for call in (*program.calls, *program.once):
        kernel = program.kernels[call.symbol]
        steps = kernel.steps if isinstance(kernel, Batch) else (0,) * len(call.pointers)
        own = tuple(map(_alignment, call.pointers, steps))
        both = zip(found.get(call.symbol, own), own, strict=True)
        found[call.symbol] = tuple(min(pair) for pair in both)
    return found


def _alignment(pointer: Pointer, step: int) -> int:
    placed = pointer.buffer.storage not in (Storage.INPUT, Storage.OUTPUT)
    offset = pointer.offset + (pointer.buffer.offset if placed else 0)
    return gcd(offset, step, ALIGNMENT)


def _linked(device: DeviceProgram, target: Target, folder: Path) -> DeviceCode:
    with ThreadPoolExecutor(1) as beside:
        emulated = beside.submit(_emulated, device, _fresh(folder / "emulated"))
        checked = check(device.kernels(), target.arch, _fresh(folder / "nvcc"))
        library = _library(device, checked.image, target.link, _fresh(folder / "library"))
        launches = len(device.program.calls)
        return DeviceCode(library, emulated.result(), checked, device.device_bytes, launches)


def _library(device: DeviceProgram, image: bytes, link: Sequence[str], folder: Path) -> bytes:
    objects = _write(device, image, folder)
    flags = ["-shared", "-fPIC", "-O1", "-Wl,--build-id=none", "-s"]
    words = [*compiler(link), *flags, "-o", "lib.so", "network.c", *objects]
    run_compiler([*words, "-ldl", "-lpthread"], folder)
    return (folder / "lib.so").read_bytes()


def _emulated(device: DeviceProgram, folder: Path) -> bytes:
    """A program for this machine; it holds no code for the device."""
    objects = _write(device, b"", folder)
    sizes = [*device.sizes, max(device.program.arena, 64)]
    ports = declare_ports(len(device.program.inputs), sizes)
    standalone = (Path(__file__).parents[1] / "standalone.c").read_text()
    (folder / "main.c").write_text(ports + standalone)
    (folder / "device.cpp").write_text(device.emulated())
    command = compiler()
    run_compiler([*command, *_EMULATION, "-c", "-o", "device.o", "device.cpp"], folder)
    sources = ["main.c", "network.c", "device.o", *objects]
    words = [*command, "-O1", "-DQC_EMULATED", "-s", "-o", "run", *sources]
    run_compiler([*words, "-lm", "-lpthread"], folder)
    return (folder / "run").read_bytes()


def _fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _write(device: DeviceProgram, image: bytes, folder: Path) -> list[str]:
    """The files to compile and link; the names of the object files."""
    (folder / "network.cu").write_text(device.kernels())
    (folder / "network.cubin").write_bytes(image)
    device.program.constants.write(folder)
    (folder / "network.c").write_text(device.host())
    (folder / "driver.h").write_text(text_of("driver.h"))
    for name, data in device.launches.items():
        (folder / f"{name}.o").write_bytes(data)
    return [f"{name}.o" for name in device.launches]
