"""Compile kernels, link them into one library, call them on guarded buffers, compare."""

import ctypes
import mmap
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

tvm = pytest.importorskip("tvm")

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compiled import need_emulator, set_up_tiles  # noqa: E402
from emulated import Program  # noqa: E402

from qc.backends.codegen.kernels import DepthwiseWorkload, FloatEpilogue, default_knobs, start  # noqa: E402
from qc.backends.codegen.kernels.compile import build_module, compile_kernel  # noqa: E402
from qc.targets import Target, load  # noqa: E402

Array = NDArray[Any]
_PAGE = mmap.PAGESIZE
_SLACK = 64
_SENTINEL = 0xA5


class Case(NamedTuple):
    """A workload for a template; ``flag``: the cpu flag which it needs to run.

    ``qemu CPU`` is a cpu that is emulated. ``extreme``: of the epilogue; ``saturated``: codes of
    255, and weights at the ends of their range.
    """

    template: Any
    workload: Any
    mcpu: str
    flag: str
    knobs: Any = None
    extreme: bool = False
    saturated: bool = False

    @property
    def emulated(self) -> str:
        """The cpu that qemu emulates for the case, if it does."""
        return self.flag.removeprefix("qemu ") if self.flag.startswith("qemu ") else ""

    @property
    def tvm(self) -> dict[str, object]:
        """TVM's target."""
        machine = "aarch64" if self.emulated else "x86_64"
        return Target("case", f"{machine}-linux-gnu", cpu=self.mcpu).tvm()

    @property
    def runs_here(self) -> bool:
        """Whether this cpu has the flag, or emulates what the flag stands for."""
        return self.flag in CPU_FLAGS or (self.flag == AMX and load("x86-amx").emulated)

    @property
    def chosen(self) -> Any:
        """The knobs of the test or the template's own choice."""
        return self.knobs or default_knobs(self.template, self.workload)


def _cpu_flags() -> frozenset[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.split(":")[1].split())
    return frozenset()


CPU_FLAGS = _cpu_flags()
_LIBC = ctypes.CDLL(None, use_errno=True)
AMX = "amx_int8"
_KEEP: list[Any] = []


def guarded(values: Array, slack: int) -> Array:
    """A copy whose page ends ``slack`` bytes later; the page after it cannot be touched."""
    size = -(-(values.nbytes + slack) // _PAGE) * _PAGE
    memory = mmap.mmap(-1, size + _PAGE)
    whole = np.frombuffer(memory, np.uint8)
    _KEEP.append(memory)
    last = ctypes.c_void_p(whole.ctypes.data + size)
    assert _LIBC.mprotect(last, ctypes.c_size_t(_PAGE), 0) == 0
    start = size - values.nbytes - slack
    start -= start % values.itemsize
    whole[:size] = _SENTINEL
    result = whole[start : start + values.nbytes].view(values.dtype)
    result[:] = values
    return result


def window(flat: Array, view: Any) -> Array:
    """The pixels of a view."""
    size = flat.itemsize
    strides = (view.row_stride * size, view.pixel_stride * size, size)
    shape = (view.height, view.width, view.channels)
    return np.lib.stride_tricks.as_strided(flat, shape, strides)


def _accumulate(workload: Any, x: Array, weights: Array, bias: Array) -> Array:
    """The convolution in float64, which is exact for the integers here."""
    (down, right), (apart_h, apart_w) = workload.strides, workload.dilations
    height, width = workload.y.height, workload.y.width
    acc = np.zeros((height, width, workload.y.channels)) + bias.astype(np.float64)
    outputs, inputs = weights.shape[:2]
    for i in range(workload.kernel[0]):
        for j in range(workload.kernel[1]):
            rows = slice(i * apart_h, i * apart_h + (height - 1) * down + 1, down)
            columns = slice(j * apart_w, j * apart_w + (width - 1) * right + 1, right)
            part = x[rows, columns].astype(np.float64)
            tap = weights[:, :, i, j].astype(np.float64)
            if isinstance(workload, DepthwiseWorkload):
                acc[:, :, :outputs] += part[:, :, :outputs] * tap[:, 0]
            else:
                acc[:, :, :outputs] += part[:, :, :inputs] @ tap.T
    return acc


def _finish(workload: Any, acc: Array, data: dict[str, Array]) -> Array:
    """The epilogue as the docstring of ``Epilogue`` defines it."""
    epilogue = workload.epilogue
    if isinstance(epilogue, FloatEpilogue):
        return np.clip(acc, epilogue.low, epilogue.high).astype(np.float32)
    if epilogue.dtype == "int32":
        return acc.astype(np.int32)
    value = acc.astype(np.int32).astype(np.float32) * data["multiplier"]
    if epilogue.dtype == "float32":
        return value
    low, high = epilogue.low - epilogue.zero_point, epilogue.high - epilogue.zero_point
    if epilogue.residual is None:
        code = np.rint(np.clip(value, low, high)).astype(np.int64) + epilogue.zero_point
    else:
        code = np.rint(value).astype(np.int64) + epilogue.residual.constant
        operand = window(data["residual"], workload.residual).astype(np.int64)
        code = (code + operand * epilogue.residual.multiplier) >> epilogue.residual.shift
    code = np.clip(code, epilogue.low, epilogue.high)
    return (data["table"][code] if epilogue.table else code).astype(epilogue.dtype)


def _data(case: Case, rng: np.random.Generator) -> dict[str, Array]:
    """Operands by name, in the order of the kernel's signature."""
    workload, epilogue = case.workload, case.workload.epilogue
    data: dict[str, Array] = {}
    channels = workload.y.channels
    if isinstance(epilogue, FloatEpilogue):
        data["x"] = rng.standard_normal(workload.x.span).astype(np.float32)
        data["bias"] = rng.standard_normal(channels).astype(np.float32)
    else:
        least = 255 if case.saturated else 0
        data["x"] = rng.integers(least, 256, workload.x.span).astype(np.uint8)
        data["bias"] = rng.integers(-3000, 3000, channels).astype(np.int32)
        fan_in = workload.x.channels * workload.kernel[0] * workload.kernel[1]
        spread = 1e6 if case.extreme else 4e-2 / np.sqrt(fan_in)
        data["multiplier"] = (rng.random(channels) * spread).astype(np.float32)
    if workload.residual is not None:
        data["residual"] = rng.integers(0, 256, workload.residual.span).astype(np.uint8)
    if getattr(epilogue, "table", False):
        data["table"] = rng.permutation(256).astype(np.uint8)
    return data


def _weights(case: Case, rng: np.random.Generator) -> Array:
    """OIHW weights; one logical output and input channel less than the physical ones."""
    workload = case.workload
    depthwise = isinstance(workload, DepthwiseWorkload)
    inputs = 1 if depthwise else workload.x.channels - (workload.x.channels >= 16)
    shape = (workload.y.channels - 1, inputs, *workload.kernel)
    if isinstance(workload.epilogue, FloatEpilogue):
        return rng.standard_normal(shape).astype(np.float32)
    if case.saturated:
        signs = rng.integers(-4, 5, (shape[0], 1, 1, 1)) + rng.integers(-3, 4, shape)
        return np.where(signs > 0, 127, -128).astype(np.int8)
    least = getattr(getattr(case.template, "dot", None), "least", -128)
    return rng.integers(least, 128, shape).astype(np.int8)


class Library:
    """Kernels of several cases, linked into one shared object."""

    def __init__(self, cases: Mapping[str, Case], folder: Path) -> None:
        """Compile the cases which this cpu can run."""
        self._all = cases
        self.cases = {n: c for n, c in cases.items() if c.emulated or c.runs_here}
        self._folder = folder
        native = {n: self._compile(n, c) for n, c in self.cases.items() if not c.emulated}
        if any(case.flag == AMX for case in self.cases.values()):
            set_up_tiles()
        if native:
            path = folder / "kernels.so"
            objects = map(str, native.values())
            subprocess.run(["cc", "-shared", "-o", str(path), *objects], check=True)
            self._library = ctypes.CDLL(str(path))

    def _compile(self, name: str, case: Case) -> Path:
        prim_func = case.template.prim_func(case.workload, case.chosen, name)
        path = self._folder / f"{name}.o"
        path.write_bytes(compile_kernel(prim_func, name, case.tvm))
        return path

    @cached_property
    def _program(self) -> Program:
        """All kernels for ARM, made when the first one is needed."""
        need_emulator()
        foreign = {n: self._compile(n, c) for n, c in self.cases.items() if c.emulated}
        return Program(foreign, self._folder, _SLACK)

    def check(self, name: str) -> None:
        """Run one case in two halves and compare it to the reference, bit by bit."""
        if name not in self.cases:
            pytest.skip(f"this cpu has no {self._all[name].flag}")
        case = self.cases[name]
        rng = np.random.default_rng(sum(map(ord, name)))
        data, weights = _data(case, rng), _weights(case, rng)
        packed = case.template.pack(weights, case.workload, case.chosen)
        data["x"] = guarded(data["x"], _SLACK)
        view = case.workload.y
        y = guarded(np.zeros(view.span, view.dtype), 0)
        y.view(np.uint8)[:] = _SENTINEL
        rest = {key: value for key, value in data.items() if key != "x"}
        rest["bias"] = data["bias"].copy()
        rest["bias"][:-1] = start(case.template, data["bias"][:-1], weights)
        operands = [data["x"], packed, *rest.values(), y]
        extent = case.template.extent(case.workload, case.chosen)
        self._call(name, operands, extent // 2, extent)
        self._call(name, operands, 0, extent // 2)
        expected = y.copy()
        expected.view(np.uint8)[:] = _SENTINEL
        x = window(data["x"], case.workload.x)
        acc = _accumulate(case.workload, x, weights, data["bias"])
        window(expected, view)[:] = _finish(case.workload, acc, data)
        if isinstance(case.workload.epilogue, FloatEpilogue):
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-3)
        else:
            np.testing.assert_array_equal(y, expected)

    def _call(self, name: str, operands: list[Array], lo: int, hi: int) -> None:
        if cpu := self.cases[name].emulated:
            self._program.call(cpu, name, operands, lo, hi)
            return
        pointers = [ctypes.c_void_p(operand.ctypes.data) for operand in operands]
        function = getattr(self._library, name)
        function.restype = None
        function(*pointers, ctypes.c_int32(lo), ctypes.c_int32(hi))


@pytest.fixture(scope="module")
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The kernels of the test module's ``CASES``."""
    cases = {name: Case(*fields) for name, fields in request.module.CASES.items()}
    return Library(cases, tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def assembly() -> Callable[[tuple[Any, ...]], str]:
    """The assembly text of the kernel of a case."""

    def emit(fields: tuple[Any, ...]) -> str:
        case = Case(*fields)
        prim_func = case.template.prim_func(case.workload, case.chosen, "kernel")
        module = build_module(prim_func, "kernel", case.tvm)
        return str(module.inspect_source("asm"))

    return emit
