"""The emulated CUDA device: threads that wait, instructions of a warp, what it finds wrong."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from qc.backends.codegen.cuda.device_program import text_of

CC = shutil.which("cc")

_PROBE = """
#define QC_KERNELS(X) X(probe, 1)
{device}
{prelude}
extern "C" void probe(int *out) {{
  __shared__ int left[64];
  {body}
}}
{driver}
int main() {{
  int out[64] = {{}};
  void *p = out;
  void *pointers[] = {{&p}};
  CUfunction f;
  if (qc_emulated.function(&f, NULL, "probe")) return 9;
  if (qc_emulated.launch(f, 2, 1, 1, 64, 1, 1, 0, NULL, pointers, NULL)) return 8;
  for (int i = 0; i < 64; i++) printf("%d ", out[i]);
}}
"""


def probe(body: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a kernel of two blocks of 64 threads that writes 64 integers."""
    if CC is None:
        pytest.skip("no C compiler")
    source = _PROBE.format(
        device=text_of("emulated.cuh"), prelude=text_of("prelude.cuh"), body=body,
        driver=text_of("emulated.inc"),
    )  # fmt: skip
    (folder / "probe.cpp").write_text(source)
    (folder / "driver.h").write_text(text_of("driver.h"))
    flags = ["-O1", "-w", "-fno-exceptions", "-fno-rtti"]
    command = [CC, *flags, "-o", "probe", "probe.cpp", "-lm"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return subprocess.run([folder / "probe"], capture_output=True, text=True, check=False)


def test_threads_wait_for_each_other(tmp_path: Path) -> None:
    body = """left[threadIdx.x] = threadIdx.x; __syncthreads();
              out[threadIdx.x] = left[63 - threadIdx.x];"""
    done = probe(body, tmp_path)
    assert done.stdout.split() == [str(63 - i) for i in range(64)]


@pytest.mark.parametrize("source", ["(threadIdx.x + 1) % 64", "(threadIdx.x + 63) % 64"])
def test_a_missing_barrier_shows(source: str, tmp_path: Path) -> None:
    """Whichever neighbour a thread reads, one of the two blocks reads it too early."""
    body = f"""left[threadIdx.x] = -1; __syncthreads();
               left[threadIdx.x] = blockIdx.x; int seen = left[{source}];
               if (seen != (int)blockIdx.x) out[threadIdx.x] = -1;"""
    assert "-1" in probe(body, tmp_path).stdout.split()


def test_a_barrier_that_not_all_threads_reach(tmp_path: Path) -> None:
    done = probe("if (threadIdx.x) __syncthreads(); else return;", tmp_path)
    assert done.returncode == 6
    assert "a barrier that not all threads reach" in done.stderr


def test_matrix_product_of_a_warp(tmp_path: Path) -> None:
    """The places of the elements are those that NVIDIA documents for mma.m16n8k32."""
    body = """if (blockIdx.x || threadIdx.x > 31) return;
      int lane = threadIdx.x, a[4], b[2], c[4] = {1, 1, 1, 1};
      for (int r = 0; r < 4; r++) {
        a[r] = 0;
        for (int i = 0; i < 4; i++) {
          int row = lane / 4 + (r % 2) * 8, k = lane % 4 * 4 + i + (r / 2) * 16;
          a[r] |= ((row * 13 + k * 7) & 255) << 8 * i;
        }
      }
      for (int r = 0; r < 2; r++) {
        b[r] = 0;
        for (int i = 0; i < 4; i++) {
          int k = lane % 4 * 4 + i + r * 16, column = lane / 4;
          b[r] |= ((k * 11 + column * 5) & 255) << 8 * i;
        }
      }
      qc_mma(c, a, b);
      if (lane < 16) for (int i = 0; i < 4; i++) out[lane * 4 + i] = c[i];"""
    got = [int(word) for word in probe(body, tmp_path).stdout.split()]
    row, k, column = np.arange(16)[:, None], np.arange(32), np.arange(8)[None]
    a = (row * 13 + k[None] * 7) & 255
    b = ((k[:, None] * 11 + column * 5) & 255).astype(np.uint8).astype(np.int8)
    c = a @ b.astype(np.int64) + 1
    want = [
        c[lane // 4 + 8 * (i // 2), lane % 4 * 2 + i % 2] for lane in range(16) for i in range(4)
    ]
    assert got == want


def test_transpose_and_rounding(tmp_path: Path) -> None:
    body = """int w[4] = {0x03020100, 0x13121110, 0x23222120, 0x33323130};
      qc_transpose(w);
      float reals[] = {0.5f, 1.5f, -2.5f, 3e9f, -3e9f};
      for (int i = 0; i < 4; i++) out[i] = w[i];
      for (int i = 0; i < 5; i++) out[4 + i] = __float2int_rn(reals[i]);"""
    got = [int(word) for word in probe(body, tmp_path).stdout.split()]
    assert [hex(w) for w in got[:4]] == ["0x30201000", "0x31211101", "0x32221202", "0x33231303"]
    assert got[4:9] == [0, 2, -2, 2**31 - 1, -(2**31)]


@pytest.mark.parametrize(("bytes_", "code"), [(8, 6), (4, 0), (1, 0)])
def test_an_address_that_a_device_refuses(bytes_: int, code: int, tmp_path: Path) -> None:
    done = probe(f"qc_load8<{bytes_}>(out, out + 1, (char *)out + 4);", tmp_path)
    assert done.returncode == code
    assert ("8 bytes at an address that is no multiple" in done.stderr) == (code == 6)
