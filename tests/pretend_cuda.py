"""A CUDA device of software for tests: libraries that programs take for NVIDIA's.

``libnvrtc.so`` compiles CUDA source for the emulated device by the C compiler (the "machine code"
is the path of a shared library), and ``libcuda.so.1`` loads and runs that.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from qc.backends.codegen.cuda.device_program import text_of

CC = shutil.which("cc")

_NVRTC = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static char path[512], log_text[1024];
static const char *text;

int nvrtcCreateProgram(void **p, const char *source, const char *name, int n, const char *const *h,
                       const char *const *i) {
  return text = source, 0;
}

int nvrtcCompileProgram(void *p, int n, const char *const *options) {
  unsigned long long hash = 14695981039346656037ull;
  char command[2048], file[512];
  if (n != 3 || strcmp(options[0], "--gpu-architecture=sm_" ARCH)) return 1;
  if (strcmp(options[1], "--fmad=false")) return 1;
  for (const char *c = text; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211ull;
  snprintf(path, sizeof path, FOLDER "/%016llx.so", hash);
  if (!access(path, R_OK)) return 0;
  snprintf(file, sizeof file, FOLDER "/%016llx.%d.cpp", hash, (int)getpid());
  FILE *out = fopen(file, "w");
  fprintf(out, "#include \"emulated.cuh\"\n%s\n#define QC_KERNELS(X)", text);
  for (const char *at = text; (at = strstr(at, "__global__ void ")); ) {
    at += strlen("__global__ void ");
    if (!strncmp(at, "__launch_bounds__(", 18)) at = strchr(at, ')') + 2;
    fprintf(out, " X(%.*s, 1)", (int)strcspn(at, "("), at);
  }
  fprintf(out, "\n#include \"emulated.inc\"\n");
  fclose(out);
  snprintf(command, sizeof command,
           CC " -shared -fPIC -O1 -w -std=c++17 -fno-exceptions -fno-rtti -fno-strict-aliasing"
           " -ffp-contract=off -Wl,-Bsymbolic -I" FOLDER " -o %s.%d %s -lm 2> %s.log"
           " && mv %s.%d %s",
           path, (int)getpid(), file, file, path, (int)getpid(), path);
  if (!system(command)) return 0;
  snprintf(command, sizeof command, "%s.log", file);
  if (!(out = fopen(command, "r"))) return 1;
  log_text[fread(log_text, 1, sizeof log_text - 1, out)] = 0;
  return fclose(out), 1;
}

int nvrtcGetProgramLogSize(void *p, size_t *n) { return *n = sizeof log_text, 0; }
int nvrtcGetProgramLog(void *p, char *log) { return strcpy(log, log_text), 0; }
int nvrtcGetCUBINSize(void *p, size_t *n) { return *n = strlen(path) + 1, 0; }
int nvrtcGetCUBIN(void *p, char *image) { return strcpy(image, path), 0; }
"""

_DRIVER = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "driver.h"
struct kernel { const struct qc_driver *device; CUfunction function; };
static const struct qc_driver *recording, *replayed;
static int capturing;

int cuInit(unsigned flags) { return 0; }
int cuGetErrorName(int code, const char **out) { return *out = "refused", 0; }
int cuDeviceGet(int *out, int number) { return *out = 0, 0; }
int cuDeviceGetAttribute(int *out, int which, int device) {
  return *out = which == QC_MAJOR ? atoi(ARCH) / 10 : atoi(ARCH) % 10, 0;
}
int cuDeviceGetName(char *out, int size, int device) { return snprintf(out, size, NAME), 0; }
int cuDevicePrimaryCtxRetain(CUcontext *out, int device) { return *out = NULL, 0; }
int cuCtxSetCurrent(CUcontext context) { return 0; }
int cuModuleLoadData(CUmodule *out, const void *image) {
  *out = (CUmodule)dlopen((const char *)image, RTLD_NOW | RTLD_LOCAL);
  return *out ? 0 : QC_BAD_IMAGE;
}
int cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name) {
  struct kernel *k = malloc(sizeof *k);
  k->device = dlsym((void *)module, "qc_emulated");
  return *out = (CUfunction)k, k->device->function(&k->function, NULL, name);
}
int cuMemAlloc_v2(CUdeviceptr *out, size_t size) {
  void *memory = aligned_alloc(256, (size + 255) / 256 * 256);
  if (!memory) return 2;
  memset(memory, 0x5a, size);
  return *out = (CUdeviceptr)memory, 0;
}
int cuMemsetD8_v2(CUdeviceptr p, unsigned char v, size_t n) { return memset((void *)p, v, n), 0; }
int cuStreamCreate(CUstream *out, unsigned flags) { return *out = NULL, 0; }
int cuStreamSynchronize(CUstream stream) { return 0; }
int cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, CUstream s) {
  return memcpy((void *)to, from, n), 0;
}
int cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, CUstream s) {
  return memcpy(to, (void *)from, n), 0;
}
int cuLaunchKernel(CUfunction f, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty,
                   unsigned tz, unsigned shared, CUstream s, void **p, void **extra) {
  struct kernel *k = (struct kernel *)f;
  if (capturing && !recording) recording = k->device, recording->begin(s, 1);
  if (capturing && recording != k->device) return 1;
  return k->device->launch(k->function, x, y, z, tx, ty, tz, shared, s, p, extra);
}
int cuStreamBeginCapture_v2(CUstream s, int mode) { return capturing = 1, 0; }
int cuStreamEndCapture(CUstream s, CUgraph *out) {
  CUgraph none;
  capturing = 0;
  if (recording) recording->end(s, &none);
  *out = (CUgraph)recording;
  return recording = NULL, 0;
}
int cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long flags) {
  return *out = (CUgraphExec)graph, 0;
}
int cuGraphLaunch(CUgraphExec graph, CUstream s) {
  return ((const struct qc_driver *)graph)->replay(NULL, s);
}
"""


def install(folder: Path, arch: int = 80, name: str = "Pretended GPU") -> dict[str, str]:
    """Build the libraries in ``folder``; the environment in which programs find them."""
    if CC is None:
        pytest.skip("no C compiler to build a driver with")
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("emulated.cuh", "emulated.inc", "driver.h"):
        (folder / file).write_text(text_of(file))
    defines = [f'-DARCH="{arch}"', f'-DNAME="{name}"', f'-DFOLDER="{folder}"', f'-DCC="{CC}"']
    for library, text in {"libnvrtc.so": _NVRTC, "libcuda.so.1": _DRIVER}.items():
        (folder / "library.c").write_text(text)
        command = [CC, "-shared", "-fPIC", "-O1", "-w", *defines, "-o", library, "library.c"]
        subprocess.run([*command, "-ldl"], cwd=folder, check=True, timeout=60)
    path = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(path)}
