"""Kernels for ARM, linked into a program that runs in qemu and calls them on guarded buffers."""

import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MAIN = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
typedef void *P;
%(declared)s
static void *table[] = {%(names)s};

static unsigned char *guarded(size_t size, size_t slack) {
  size_t page = 65536, whole = (size + slack + page - 1) / page * page;
  unsigned char *m = mmap(0, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (m == MAP_FAILED) return 0;
  mprotect(m + whole, page, PROT_NONE);
  return memset(m, 0xa5, whole) + (whole - size - slack) / 8 * 8;
}

int main(void) {
  int32_t head[4];
  int64_t size[8] = {0};
  P p[8] = {0};
  while (fread(head, sizeof head, 1, stdin) == 1) {
    int n = head[3];
    for (int i = 0; i < n; i++) {
      if (fread(size + i, 8, 1, stdin) != 1) return 3;
      p[i] = guarded(size[i], i == 0 ? %(slack)d : i == n - 1 ? 0 : 64);
      if (size[i] && fread(p[i], size[i], 1, stdin) != 1) return 4;
    }
    void *f = table[head[0]];
    int lo = head[1], hi = head[2];
    switch (n) {
    case 4: ((void (*)(P, P, P, P, int, int))f)(p[0], p[1], p[2], p[3], lo, hi); break;
    case 5: ((void (*)(P, P, P, P, P, int, int))f)(p[0], p[1], p[2], p[3], p[4], lo, hi); break;
    case 6: ((void (*)(P, P, P, P, P, P, int, int))f)
      (p[0], p[1], p[2], p[3], p[4], p[5], lo, hi); break;
    case 7: ((void (*)(P, P, P, P, P, P, P, int, int))f)
      (p[0], p[1], p[2], p[3], p[4], p[5], p[6], lo, hi); break;
    default: return 5;
    }
    fwrite(p[n - 1], size[n - 1], 1, stdout);
    fflush(stdout);
  }
  return 0;
}
"""


class Program:
    """Object files by the kernels' names, as one program."""

    def __init__(self, objects: Mapping[str, Path], folder: Path, slack: int) -> None:
        self._names = list(objects)
        declared = "".join(f"extern void {n}(void);\n" for n in self._names)
        names = ", ".join(f"(void *){n}" for n in self._names)
        source = folder / "kernels.c"
        source.write_text(_MAIN % {"declared": declared, "names": names, "slack": slack})
        self._path = folder / "kernels"
        zig = [sys.executable, "-m", "ziglang", "cc", "-static", "-target", "aarch64-linux-musl"]
        files = [str(source), *map(str, objects.values())]
        subprocess.run([*zig, "-O1", "-s", "-w", "-o", str(self._path), *files, "-lm"], check=True)

    def call(
        self, cpu: str, name: str, operands: list[NDArray[np.generic]], lo: int, hi: int
    ) -> None:
        """Run ``name`` on copies of the operands on an emulated ``cpu``; the last is written."""
        index = self._names.index(name)
        request = [struct.pack("<4i", index, lo, hi, len(operands))]
        for operand in operands:
            data = np.ascontiguousarray(operand).tobytes()
            request += [struct.pack("<q", len(data)), data]
        done = subprocess.run(
            ["qemu-aarch64", "-cpu", cpu, str(self._path)],
            input=b"".join(request), capture_output=True, check=True,
        )  # fmt: skip
        operands[-1][...] = np.frombuffer(done.stdout, operands[-1].dtype)
