"""The host code of a network for CUDA, with drivers that pretend to be NVIDIA's."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from compiled import Compiled, compile_networks

from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.cuda import nvcc
from qc.backends.codegen.cuda.device_program import text_of

CC = shutil.which("cc")

_TRAMPOLINE = '__asm__(".globl {0}\\n.type {0}, @function\\n{0}: jmp *qc_emulated+{1}(%rip)\\n");\n'


def pretend_driver(device: str, folder: Path, change: Callable[[str], str]) -> None:
    """``libcuda.so.1`` in ``folder`` from the source of an emulated device, changed."""
    symbols = re.findall(r'X\(\w+, "(\w+)"', text_of("driver.h"))
    assert len(symbols) == 20
    jumps = "".join(_TRAMPOLINE.format(s, 8 * i) for i, s in enumerate(symbols))
    (folder / "driver.cpp").write_text(change(device) + jumps)
    (folder / "driver.h").write_text(text_of("driver.h"))
    flags = ["-shared", "-fPIC", "-O1", "-w", "-fno-exceptions", "-fno-rtti", "-Wl,-Bsymbolic"]
    command = [str(CC), *flags, "-fno-strict-aliasing", "-o", "libcuda.so.1", "driver.cpp", "-lm"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)


_CALLER = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import conftest
from qc.backends.codegen.artifact import Artifact
from qc.targets import cuda_device
print(cuda_device.compute_capability())
cuda_device.compute_capability = lambda: 99  # the library has its own idea
artifact = Artifact.load(sys.argv[2])
assert artifact.emulator is None
feed = dict(np.load(sys.argv[3]))
first = artifact.run(feed)
again = artifact.run({k: v * 0 for k, v in feed.items()})
np.savez(sys.argv[4], **artifact.run(feed))
"""


_NVRTC = """
#include <stdio.h>
#include <string.h>
static const char *text;
int nvrtcCreateProgram(void **p, const char *source, const char *name, int n,
                       const char *const *h, const char *const *i) { text = source; return 0; }
int nvrtcCompileProgram(void *p, int n, const char *const *o) {
  return n != 3 || strcmp(o[0], "--gpu-architecture=sm_99") || strcmp(o[1], "--fmad=false") ||
         !strstr(text, "qc_mma") || !strstr(text, "_kernel(") || REFUSES;
}
int nvrtcGetProgramLogSize(void *p, size_t *n) { *n = 12; return 0; }
int nvrtcGetProgramLog(void *p, char *log) { strcpy(log, "not\\nallowed"); return 0; }
int nvrtcGetCUBINSize(void *p, size_t *n) { *n = 4; return 0; }
int nvrtcGetCUBIN(void *p, char *image) { memcpy(image, "code", 4); return 0; }
"""


def pretend_nvrtc(folder: Path, refuses: bool) -> None:
    """``libnvrtc.so`` in ``folder``, which looks at what it is given and makes nothing of it."""
    (folder / "nvrtc.c").write_text(_NVRTC)
    flags = ["-shared", "-fPIC", "-w", f"-DREFUSES={int(refuses)}"]
    command = [str(CC), *flags, "-o", "libnvrtc.so", "nvrtc.c"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)


@pytest.fixture(scope="module", params=[b"", b"code"], ids=["source", "code"])
def small(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Compiled, str]:
    """A small network, as source alone and with code, and the source of its emulated device."""
    if CC is None:
        pytest.skip("no C compiler to build a driver with")
    texts = []
    with pytest.MonkeyPatch.context() as patch:
        checked = nvcc.Checked(request.param, "")
        patch.setattr("qc.backends.codegen.cuda.build.check", lambda *_: checked)
        patch.setattr(
            "qc.backends.codegen.cuda.build._emulated",
            lambda device, _: texts.append((device.emulated(), device.kernels())) or b"",
        )
        patch.setattr(Artifact, "load", lambda path: None)
        path = tmp_path_factory.mktemp("small") / "out"
        compiled = compile_networks("cuda", ["epilogues", "attention"], path)
    emulated, kernels = texts[0]
    return compiled, emulated.replace('#include "network.cu"', kernels)


def call(compiled: Compiled, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the network in a process whose driver lies in ``folder``."""
    np.savez(folder / "feed.npz", **compiled.feed)
    tests = str(Path(__file__).resolve().parents[2])
    words = [tests, str(compiled.path), str(folder / "feed.npz"), str(folder / "got.npz")]
    return subprocess.run(
        [sys.executable, "-c", _CALLER, *words], capture_output=True, text=True, timeout=120,
        check=False, env={"LD_LIBRARY_PATH": str(folder), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def test_host_code(small: tuple[Compiled, str], tmp_path: Path) -> None:
    """What lib.so asks of the driver gives the network's values, in an order that is right."""
    compiled, device = small
    pretend_driver(device, tmp_path, lambda text: text)
    pretend_nvrtc(tmp_path, False)
    done = call(compiled, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "99"
    got = np.load(tmp_path / "got.npz")
    assert sorted(got) == sorted(compiled.want)
    for name, want in compiled.want.items():
        np.testing.assert_array_equal(got[name], want, err_msg=name)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("void *memory = aligned_alloc", "return 2; void *memory = aligned_alloc",
         "CUDA device: no memory on the CUDA device: out of memory"),
        ("const qc_code *code = (", "return 1; const qc_code *code = (",
         "_kernel: refused"),
        ("for (size_t i = 0; i < qc_records; i++) qc_execute(qc_record[i]);", "return 1;",
         "CUDA: cannot launch: refused"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("small", [b"code"], indirect=True)
def test_what_the_driver_refuses(
    small: tuple[Compiled, str], tmp_path: Path, before: str, after: str, message: str
) -> None:
    refused(small, tmp_path, lambda text: text.replace(before, after), message)


@pytest.mark.parametrize("code", [200, 209])
@pytest.mark.parametrize("small", [b"code"], indirect=True)
def test_code_for_another_device(small: tuple[Compiled, str], code: int, tmp_path: Path) -> None:
    """What the driver does not take is compiled again from the source."""
    takes = "[](CUmodule *out, const void *) { return *out = NULL, 0; }"
    once = f"[](CUmodule *out, const void *) {{ static int n; return n++ ? 0 : {code}; }}"
    assert takes in small[1]
    no_nvrtc = "the code is for another device, and there is no NVRTC: libnvrtc"
    refused(small, tmp_path, lambda text: text.replace(takes, once), no_nvrtc)
    pretend_nvrtc(tmp_path, False)
    assert call(small[0], tmp_path).returncode == 0


@pytest.mark.parametrize("small", [b""], indirect=True)
def test_what_the_source_cannot_become(small: tuple[Compiled, str], tmp_path: Path) -> None:
    no_nvrtc = "the code is for another device, and there is no NVRTC: libnvrtc"
    refused(small, tmp_path, lambda text: text, no_nvrtc)
    older = "the CUDA device is: sm_77, the network needs sm_80 or newer"
    refused(small, tmp_path, lambda text: text.replace("*out = 9, 0;", "*out = 7, 0;"), older)
    pretend_nvrtc(tmp_path, True)
    refused(small, tmp_path, lambda text: text, "NVRTC refuses the kernels: not; allowed")


def refused(
    small: tuple[Compiled, str], folder: Path, change: Callable[[str], str], message: str
) -> None:
    """What the last line of the error says, with a driver that is changed."""
    compiled, device = small
    pretend_driver(device, folder, change)
    done = call(compiled, folder)
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1], done.stderr
