/* NVIDIA's driver and its compiler, found at run time: what launch.c and measure.c share.

   Functions return 0, or 1 and `message` says why; the first reason stays. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct qc_driver cuda;
static char message[1024];
static CUcontext context;
static CUstream stream;

static int fail(const char *what, const char *why) {
  if (!message[0]) snprintf(message, sizeof message, "%s: %s", what, why);
  return 1;
}

static int check(int code, const char *what) {
  const char *name = "unknown error";
  if (!code) return 0;
  if (cuda.error_name) cuda.error_name(code, &name);
  return fail(what, name);
}

#define TRY(call, what)                  \
  do {                                   \
    if (check(cuda.call, what)) return 1; \
  } while (0)

#ifdef QC_EMULATED
extern const struct qc_driver qc_emulated;
static int find_driver(void) { return cuda = qc_emulated, 0; }
static int compile(const char *source, int arch, char **image, size_t *size) {
  (void)source, (void)arch; /* its kernels are linked with it */
  return *size = 0, *image = calloc(1, 1), 0;
}
#else
#include <dlfcn.h>
static int find_driver(void) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return fail("no CUDA driver", dlerror());
#define QC_FIND(field, symbol, arguments)                   \
  *(void **)&cuda.field = dlsym(library, symbol);           \
  if (!cuda.field) return fail("the CUDA driver lacks", symbol);
  QC_DRIVER(QC_FIND)
#undef QC_FIND
  return 0;
}

#define QC_NVRTC(X)                                                                            \
  X(make, "nvrtcCreateProgram",                                                                \
    (void **, const char *, const char *, int, const char *const *, const char *const *))      \
  X(compile, "nvrtcCompileProgram", (void *, int, const char *const *))                        \
  X(log_size, "nvrtcGetProgramLogSize", (void *, size_t *))                                    \
  X(get_log, "nvrtcGetProgramLog", (void *, char *))                                           \
  X(size_of, "nvrtcGetCUBINSize", (void *, size_t *))                                          \
  X(get, "nvrtcGetCUBIN", (void *, char *))

static struct {
#define QC_FIELD(field, symbol, arguments) int(*field) arguments;
  QC_NVRTC(QC_FIELD)
#undef QC_FIELD
} nvrtc;

static int find_compiler(void) {
  const char *names[] = {"libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"};
  void *library = NULL;
  for (int i = 0; !library && i < 4; i++) library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  if (!library) return fail("the code is for another device, and there is no NVRTC", dlerror());
#define QC_FIND(field, symbol, arguments)          \
  *(void **)&nvrtc.field = dlsym(library, symbol); \
  if (!nvrtc.field) return fail("NVRTC", "it is too old, 11.2 or newer is needed");
  QC_NVRTC(QC_FIND)
#undef QC_FIND
  return 0;
}

/* Code of `source` for sm_<arch>, by NVRTC; the image is to be freed. */
static int compile(const char *source, int arch, char **image, size_t *size) {
  void *program = NULL;
  char option[64];
  if (find_compiler()) return 1;
  snprintf(option, sizeof option, "--gpu-architecture=sm_%d", arch);
  const char *options[] = {option, "--fmad=false", "--std=c++17"};
  if (nvrtc.make(&program, source, "network.cu", 0, NULL, NULL))
    return fail("NVRTC", "it takes no program");
  if (nvrtc.compile(program, 3, options)) {
    char *log = nvrtc.log_size(program, size) ? NULL : calloc(*size + 1, 1);
    if (log && !nvrtc.get_log(program, log)) fail("NVRTC refuses the kernels", log);
    free(log);
    return fail("NVRTC", "it refuses the kernels");
  }
  if (nvrtc.size_of(program, size)) return fail("NVRTC", "it gives no code");
  *image = malloc(*size);
  if (!*image || nvrtc.get(program, *image)) return fail("NVRTC", "it gives no code");
  return 0;
}
#endif

/* The first device, its architecture (90 for sm_90), and a stream of its own. */
static int open_device(int *arch) {
  int device = 0, major = 0, minor = 0;
  if (find_driver()) return 1;
  TRY(init(0), "cannot start CUDA");
  TRY(device(&device, 0), "no CUDA device");
  TRY(attribute(&major, QC_MAJOR, device), "no compute capability");
  TRY(attribute(&minor, QC_MINOR, device), "no compute capability");
  TRY(retain(&context, device), "cannot use the CUDA device");
  TRY(use(context), "cannot use the CUDA device");
  TRY(stream(&stream, 0), "cannot make a stream");
  *arch = 10 * major + minor;
  return 0;
}

/* Record what `calls` launches, to be replayed. */
static int record(int (*calls)(void), CUgraphExec *out) {
  CUgraph recorded = NULL;
  TRY(begin(stream, QC_CAPTURE_THREAD), "cannot record the launches");
  int failed = calls();
  TRY(end(stream, &recorded), "cannot record the launches");
  if (failed) return 1;
  TRY(instantiate(out, recorded, 0), "cannot make a graph");
  return 0;
}
