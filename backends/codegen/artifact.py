"""A compiled network: loading, checking and running the artifact directory.

Running needs the library and the manifest, no compiler: with one thread not even TVM's runtime is
imported; with several its thread pool runs the kernels.
"""

import ctypes
import json
import os
import platform
import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.errors import BackendError, DataError, TargetError, nearest
from ...ir.hashes import sha256
from ...ir.types import Array
from . import tile_registers
from .emulate import STANDALONE, Emulated, emulator
from .library import fresh_name
from .threaded import threaded

if TYPE_CHECKING:
    from .decoder import Decoder, Functions

FORMAT = 1
LIBRARY = "lib.so"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Port:
    """An input or output."""

    name: str
    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A function of the library, and how its arguments come from arrays (ports, workspace)."""

    function: Callable[..., object]
    arguments: Callable[[Sequence[Array]], list[Any]]

    def __call__(self, arrays: Sequence[Array]) -> None:
        """Run on one set of arrays."""
        self.function(*self.arguments(arrays))


class Artifact:
    """A compiled network; ``run`` may be called from several threads at once."""

    def __init__(
        self,
        path: Path,
        manifest: dict[str, Any],
        entry: Entry,
        threads: int,
        emulator: str | None = None,
    ) -> None:
        self.path = path
        self.emulator = emulator
        self.device: str | None = None
        self.note = ""
        self.clock: Callable[[Sequence[Array]], list[float]] | None = None
        self.manifest = manifest
        self.threads = threads
        self.inputs = ports_of(manifest["inputs"])
        self.outputs = ports_of(manifest["outputs"])
        self._entry = entry
        self._names = frozenset(p.name for p in self.inputs)
        self._made = [(p.name, p.shape, p.dtype) for p in self.outputs]
        self._room = int(manifest["workspace_bytes"])
        self._free: list[Array] = []
        self._functions: Functions | None = None

    @staticmethod
    def load(path: str | Path, threads: int = 1, device: str | None = None) -> "Artifact":
        """Load an artifact to run on ``threads`` threads; one for another machine in its emulator.

        One for CUDA runs on this machine's device, else in the emulation that lies beside it; one
        without code runs by the numpy reference, and its ``note`` says why.

        ``device``: HOST:PORT of the machine that runs it instead (``qc device serve``).  Raises
        ``BackendError`` where files are missing or do not match the manifest, or the device cannot
        be worked with, and ``TargetError`` naming what this machine lacks.
        """
        if threads < 1:
            raise BackendError(f"threads = {threads} must be at least 1")
        folder = Path(path)
        manifest = read_manifest(folder)
        if "reference" in manifest:
            from .reference import open_reference

            return open_reference(folder, manifest, threads, device)
        check_file(folder, manifest, LIBRARY)
        if "decoder" in manifest:
            return _decoding(folder, manifest, threads, device)
        if "cuda" in manifest:
            return _on_cuda(folder, manifest, threads, device)
        if device is not None:
            return _on_device(folder, manifest, threads, device)
        if is_foreign(manifest) and (command := emulator(manifest)):
            if threads > 1:
                raise TargetError(f"{command[0]} runs the network on one thread, not on {threads}")
            check_file(folder, manifest, STANDALONE)
            emulated = Emulated(command, folder / STANDALONE, len(manifest["inputs"]))
            entry = Entry(emulated, lambda arrays: [arrays])
            return Artifact(folder, manifest, entry, 1, command[0])
        check_machine(manifest)
        ports = len(manifest["inputs"]) + len(manifest["outputs"])
        entry = _open(folder / LIBRARY, manifest, threads, ports)
        return Artifact(folder, manifest, entry, threads, _emulator_of(manifest))

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs, by name, in arrays of their own, for one array per input.

        Raises ``DataError`` for a wrong name, shape or element type.
        """
        if feed.keys() != self._names:
            raise DataError(_wrong_names(self._names, feed))
        held = [_checked(p, feed[p.name]) for p in self.inputs]
        results = {name: np.empty(shape, dtype) for name, shape, dtype in self._made}
        try:
            workspace = self._free.pop()
        except IndexError:
            workspace = aligned(self._room)
        arrays = [*held, *results.values(), workspace]
        self._entry(arrays)
        self._free.append(workspace)
        return results

    def runner(self, feed: Mapping[str, Array]) -> "Bound":
        """A call bound to one feed and fixed results: for benchmarks, not thread-safe."""
        if feed.keys() != self._names:
            raise DataError(_wrong_names(self._names, feed))
        held = [_checked(p, feed[p.name]).copy() for p in self.inputs]
        results = {name: np.empty(shape, dtype) for name, shape, dtype in self._made}
        return Bound(self._entry, held, results, aligned(self._room))

    def decoder(self) -> "Decoder":
        """A sequence of its own, token by token; ``BackendError`` for networks without states."""
        from .decoder import Decoder

        if self._functions is None:
            raise BackendError(
                f"{str(self.path)!r} takes whole sequences only: compile it with --capacity N"
            )
        return Decoder(self._functions)

    def save(self, path: str | Path) -> None:
        """Copy the artifact to another directory, replaced as a whole if it is one of ours."""
        from .build import replacing

        if Path(path).resolve() == self.path.resolve():
            return
        with replacing(Path(path)) as folder:
            shutil.copytree(self.path, folder, dirs_exist_ok=True)
        self.path = Path(path)


def _decoding(folder: Path, manifest: dict[str, Any], threads: int, device: str | None) -> Artifact:
    """A decoder, which runs whole sequences too: some tokens at a time."""
    from .decoder import Whole, functions_of

    if device is not None:
        raise TargetError(
            f"{str(folder)!r} is a decoder, which --device does not serve: copy it to {device} and "
            "run it there"
        )
    command = emulator(manifest) if is_foreign(manifest) else None
    if command:
        check_file(folder, manifest, STANDALONE)
        ports = manifest["decoder"]["step"]["inputs"]
        emulated = Entry(
            Emulated(command, folder / STANDALONE, len(ports)), lambda arrays: [arrays]
        )
        functions = functions_of(manifest, lambda name: None if name else emulated)
    else:
        check_machine(manifest)
        step = manifest["decoder"]["step"]
        ports = len(step["inputs"]) + len(step["outputs"])
        functions = functions_of(
            manifest, lambda end: _open(folder / LIBRARY, manifest, threads, ports, end)
        )
    whole = Entry(Whole(functions), lambda arrays: [*arrays])
    name = command[0] if command else _emulator_of(manifest)
    artifact = Artifact(folder, manifest, whole, threads, name)
    artifact._functions = functions
    return artifact


def _on_device(folder: Path, manifest: dict[str, Any], threads: int, device: str) -> Artifact:
    from .address import Address
    from .remote import Device, RemoteEntry

    link = Device(Address.parse(device))
    try:
        needed = frozenset(manifest["features"])
        link.check(manifest["target"]["triple"], needed, manifest["versions"]["apache-tvm"])
    except BaseException:
        link.close()
        raise
    entry = RemoteEntry(link, folder / LIBRARY, len(manifest["inputs"]), threads)
    artifact = Artifact(folder, manifest, Entry(entry, lambda arrays: [arrays]), threads)
    artifact.device, artifact.clock = device, entry.seconds
    weakref.finalize(artifact, link.close)
    return artifact


def _on_cuda(folder: Path, manifest: dict[str, Any], threads: int, device: str | None) -> Artifact:
    from ...targets.cuda_device import compute_capability
    from .cuda.device import Device

    if device is not None:
        raise TargetError(
            f"{str(folder)!r} is for CUDA, which --device does not serve: copy it to {device} and "
            "run it there"
        )
    if threads > 1:
        raise TargetError(f"a CUDA device takes calls from one thread, not from {threads}")
    check_machine(manifest)
    arch = str(manifest["cuda"]["arch"])
    if compute_capability() >= int(arch.removeprefix("sm_")):
        gpu = Device(folder / LIBRARY, len(manifest["inputs"]) + len(manifest["outputs"]))
        gpu.open()
        return Artifact(folder, manifest, Entry(gpu, lambda arrays: [arrays]), 1)
    if not (folder / STANDALONE).exists():
        raise TargetError(
            f"{str(folder)!r} needs a CUDA device {arch} and this machine has none: load it where "
            f"one is, or with its emulation (the file {STANDALONE!r} of the artifact)"
        )
    check_file(folder, manifest, STANDALONE)
    emulated = Emulated([], folder / STANDALONE, len(manifest["inputs"]))
    entry = Entry(emulated, lambda arrays: [arrays])
    return Artifact(folder, manifest, entry, 1, "an emulated CUDA device")


class Bound:
    """A call with a fixed feed, fixed results and its own workspace; not thread-safe."""

    def __init__(
        self, entry: Entry, held: Sequence[Array], results: dict[str, Array], workspace: Array
    ) -> None:
        self.results = results
        self._arrays = [*held, *results.values(), workspace]
        self._function = entry.function
        self._arguments = entry.arguments(self._arrays)

    def __call__(self) -> None:
        """Run once."""
        self._function(*self._arguments)

    @property
    def arrays(self) -> list[Array]:
        """Those of the ports and the workspace."""
        return self._arrays


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest; ``BackendError`` where it is missing or not ours."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise BackendError(f"{str(folder)!r} is no artifact: it has no {MANIFEST}") from error
    except (OSError, ValueError) as error:
        raise BackendError(f"{str(folder / MANIFEST)!r} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("qc") != FORMAT:
        raise BackendError(f"{str(folder / MANIFEST)!r} is not of format {FORMAT}; compile again")
    return manifest


def check_file(folder: Path, manifest: Mapping[str, Any], name: str) -> None:
    """``BackendError`` unless a file is the one that the manifest was written for."""
    try:
        found = sha256(folder / name)
    except OSError as error:
        raise BackendError(f"{str(folder / name)!r} cannot be read: {error.strerror}") from error
    if found != manifest.get("files", {}).get(name):
        raise BackendError(
            f"{str(folder / name)!r} does not match the hash in {MANIFEST}; compile again"
        )


def is_foreign(manifest: Mapping[str, Any]) -> bool:
    """Whether the artifact is for another architecture than this machine's."""
    machine = platform.machine().replace("AMD64", "x86_64").replace("armv7l", "armv7")
    return not str(manifest["target"]["triple"]).startswith(machine)


def check_machine(manifest: Mapping[str, Any]) -> None:
    """``TargetError`` naming the cpu features that this machine lacks."""
    from ...targets.host import features

    target = manifest["target"]
    if is_foreign(manifest):
        wanted = target.get("emulator")
        hint = f"; with {wanted[0]} installed it runs emulated" if wanted else ""
        raise TargetError(
            f"built for {target['triple']}, this machine is {platform.machine()}{hint}"
        )
    lacking = sorted(set(manifest["features"]) - features())
    if lacking and not _emulator_of(manifest):
        raise TargetError(
            f"built for target {target['name']!r}: this machine lacks {', '.join(lacking)}"
        )


def _emulator_of(manifest: Mapping[str, Any]) -> str | None:
    """What emulates instructions that this machine lacks by the file that lies beside the code."""
    if tile_registers.FILE not in manifest.get("files", {}):
        return None
    return tile_registers.emulator(manifest["features"])


def _open(
    library: Path, manifest: Mapping[str, Any], threads: int, ports: int, suffix: str = ""
) -> Entry:
    """What runs the network, given one array for each of its ``ports`` and the workspace.

    ``suffix``: ends the name of the function, if it is not the first graph's.
    """
    if _emulator_of(manifest):
        check_file(library.parent, manifest, tile_registers.FILE)
        tile_registers.emulate(library.parent / tile_registers.FILE)
    elif "amx-int8" in manifest["features"]:
        tile_registers.permit()
    try:
        with fresh_name(library) as name:
            if threads > 1:
                return Entry(*threaded(name, threads, suffix))
            loaded = ctypes.CDLL(name, mode=os.RTLD_LAZY | os.RTLD_LOCAL)
        function = getattr(loaded, f"qc_run{suffix}")
    except (OSError, AttributeError, RuntimeError) as error:
        raise BackendError(f"{str(library)!r} cannot be loaded: {error}") from error
    function.argtypes = [ctypes.c_void_p] * (ports + 1)
    function.restype = None
    return Entry(function, _addresses)


def _addresses(arrays: Sequence[Array]) -> list[Any]:
    return [a.__array_interface__["data"][0] for a in arrays]


def ports_of(table: Sequence[Mapping[str, Any]]) -> list[Port]:
    """The ports that a manifest lists."""
    return [Port(p["name"], np.dtype(p["dtype"]), tuple(p["shape"])) for p in table]


def _checked(port: Port, array: Array) -> Array:
    if not isinstance(array, np.ndarray):
        raise DataError(f"input {port.name!r}: a numpy array, not {type(array).__name__}")
    if array.shape != port.shape or array.dtype != port.dtype:
        raise DataError(
            f"input {port.name!r}: {array.dtype}{list(array.shape)} given, "
            f"the model takes {port.dtype}{list(port.shape)}"
        )
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _wrong_names(names: frozenset[str], feed: Mapping[str, Array]) -> str:
    for name in feed:
        if name not in names:
            return f"the model has no input {name!r}; {nearest(name, names)}"
    return f"input {sorted(names - feed.keys())[0]!r} is missing"


def aligned(size: int) -> Array:
    """Fresh memory at a multiple of 64 bytes, zeroed (its padding must hold finite numbers)."""
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.__array_interface__["data"][0] % 64
    return raw[start : start + size]
