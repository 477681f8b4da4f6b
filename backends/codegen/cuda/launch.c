/* The host code of a network on a CUDA device.

   qc_run(inputs..., outputs..., workspace) takes host pointers, the workspace unused; the first call
   opens the device.  One device arena holds constants, inputs, outputs and activations; the
   launches of `sequence` (generated, compiled by LLVM) are captured once and replayed as a graph.
   Returns 0, or 1 and qc_error() says why.  Calls of several threads wait for each other.

   The generated part before this defines qc_inputs, qc_ports, qc_sizes (bytes of inputs, outputs and
   the arena), qc_kernels, qc_table and qc_least (the least device), and how constants are unpacked;
   the one behind it qc_run, a
   function for each kernel, `sequence`, which calls them all, and `prepare` for what is done once. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROOM(size) (((size) + 319) / 256 * 256)

extern const unsigned char qc_data[], qc_data_end[], qc_source[], qc_image[], qc_image_end[];
static int prepare(void), sequence(void);

static struct qc_driver cuda;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char message[1024];
static int opened;
static CUcontext context;
static CUmodule module;
static CUfunction functions[qc_kernels + 1];
static CUstream stream;
static CUgraphExec graph;
static CUdeviceptr constants, unpacked;
static void *ports[qc_ports + 1];
static int failed;

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
static int translate(int arch) { return (void)arch, check(cuda.load(&module, qc_source), "load"); }
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

/* Compile the embedded source for this device by NVRTC. */
static int translate(int arch) {
  const char *names[] = {"libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"};
  void *library = NULL, *program = NULL;
  for (int i = 0; !library && i < 4; i++) library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  if (!library) return fail("the code is for another device, and there is no NVRTC", dlerror());
  int (*make)(void **, const char *, const char *, int, const char *const *, const char *const *);
  int (*compile)(void *, int, const char *const *);
  int (*log_size)(void *, size_t *), (*get_log)(void *, char *);
  int (*size_of)(void *, size_t *), (*get)(void *, char *);
  *(void **)&make = dlsym(library, "nvrtcCreateProgram");
  *(void **)&compile = dlsym(library, "nvrtcCompileProgram");
  *(void **)&log_size = dlsym(library, "nvrtcGetProgramLogSize");
  *(void **)&get_log = dlsym(library, "nvrtcGetProgramLog");
  *(void **)&size_of = dlsym(library, "nvrtcGetCUBINSize");
  *(void **)&get = dlsym(library, "nvrtcGetCUBIN");
  if (!make || !compile || !log_size || !get_log || !size_of || !get)
    return fail("NVRTC", "it is too old, 11.2 or newer is needed");
  char option[64];
  snprintf(option, sizeof option, "--gpu-architecture=sm_%d", arch);
  const char *options[] = {option, "--fmad=false", "--std=c++17"};
  if (make(&program, (const char *)qc_source, "network.cu", 0, NULL, NULL))
    return fail("NVRTC", "it takes no program");
  size_t size = 0;
  if (compile(program, 3, options)) {
    char *log = log_size(program, &size) ? NULL : calloc(size + 1, 1);
    if (log && !get_log(program, log)) fail("NVRTC refuses the kernels", log);
    free(log);
    return fail("NVRTC", "it refuses the kernels");
  }
  if (size_of(program, &size)) return fail("NVRTC", "it gives no code");
  char *image = malloc(size);
  if (!image || get(program, image)) return fail("NVRTC", "it gives no code");
  int code = cuda.load(&module, image);
  free(image);
  return check(code, "cannot load the kernels");
}
#endif

static int load(int device) {
  int major = 0, minor = 0;
  if (qc_image_end > qc_image) {
    int code = cuda.load(&module, qc_image);
    if (code != QC_NO_BINARY && code != QC_BAD_IMAGE) return check(code, "cannot load the kernels");
  }
  TRY(attribute(&major, QC_MAJOR, device), "no compute capability");
  TRY(attribute(&minor, QC_MINOR, device), "no compute capability");
  if (10 * major + minor < qc_least) {
    char text[96];
    snprintf(text, sizeof text, "sm_%d%d, the network needs sm_%d or newer", major, minor, qc_least);
    return fail("the CUDA device is", text);
  }
  return translate(10 * major + minor);
}

/* Called by qc_sequence, through a function for each kernel. */
static int launch(int number, void **arguments) {
  const struct qc_kernel *k = &qc_table[number];
  if (failed) return 0;
  failed = check(cuda.launch(functions[number], k->blocks, k->samples, 1, k->threads, 1, 1, 0, stream,
                             arguments, NULL), k->name);
  return 0;
}

const void *qc_constants(void) { return (const void *)(size_t)constants; }
const void *qc_unpacked(void) { return (const void *)(size_t)unpacked; }

static int upload_unpacked(void) {
  if (!qc_room_bytes) return 0;
  unsigned char *room = calloc(1, qc_room_bytes);
  if (!room) return fail("no memory", "for unpacked constants");
  qc_unpack(room);
  int code = cuda.upload(unpacked, room, qc_room_bytes, stream);
  code = code ? code : cuda.wait(stream);
  free(room);
  return check(code, "cannot upload constants");
}

static int capture(void) {
  CUgraph recorded = NULL;
  TRY(begin(stream, QC_CAPTURE_THREAD), "cannot record the launches");
  failed = 0;
  sequence();
  int code = cuda.end(stream, &recorded);
  if (failed) return 1;
  if (check(code, "cannot record the launches")) return 1;
  TRY(instantiate(&graph, recorded, 0), "cannot make a graph of the launches");
  return 0;
}

static int open_device(void) {
  int device = 0;
  size_t total = ROOM(qc_data_end - qc_data) + ROOM((size_t)qc_room_bytes);
  CUdeviceptr arena = 0;
  if (find_driver()) return 1;
  TRY(init(0), "cannot start CUDA");
  TRY(device(&device, 0), "no CUDA device");
  TRY(retain(&context, device), "cannot use the CUDA device");
  TRY(use(context), "cannot use the CUDA device");
  if (load(device)) return 1;
  for (int i = 0; i < qc_kernels; i++)
    TRY(function(&functions[i], module, qc_table[i].name), qc_table[i].name);
  TRY(stream(&stream, 0), "cannot make a stream");
  for (int i = 0; i <= qc_ports; i++) total += ROOM(qc_sizes[i]);
  TRY(allocate(&arena, total), "no memory on the CUDA device");
  TRY(clear(arena, 0, total), "cannot clear memory");
  constants = arena;
  TRY(upload(arena, qc_data, qc_data_end - qc_data, stream), "cannot upload constants");
  unpacked = arena += ROOM(qc_data_end - qc_data);
  if (upload_unpacked()) return 1;
  arena += ROOM((size_t)qc_room_bytes);
  for (int i = 0; i <= qc_ports; i++) {
    ports[i] = (void *)(size_t)arena;
    arena += ROOM(qc_sizes[i]);
  }
  failed = 0;
  prepare();
  if (failed) return 1;
  TRY(wait(stream), "cannot prepare memory");
  return capture();
}

static int opened_here(void) {
  if (opened) return check(cuda.use(context), "cannot use the CUDA device");
  message[0] = 0;
  if (open_device()) return 1;
  opened = 1;
  return 0;
}

static int network(void **host) {
  if (opened_here()) return 1;
  for (int i = 0; i < qc_inputs; i++)
    if (qc_sizes[i])
      TRY(upload((CUdeviceptr)(size_t)ports[i], host[i], qc_sizes[i], stream), "cannot upload");
  TRY(replay(graph, stream), "cannot launch");
  for (int i = qc_inputs; i < qc_ports; i++)
    if (qc_sizes[i])
      TRY(download(host[i], (CUdeviceptr)(size_t)ports[i], qc_sizes[i], stream), "cannot download");
  TRY(wait(stream), "a kernel failed");
  return 0;
}

static int guarded(void **host) {
  pthread_mutex_lock(&lock);
  int code = network(host);
  pthread_mutex_unlock(&lock);
  return code;
}

/* Nanoseconds of `repeats` runs on what the device holds, without copies; negative where that fails. */
double qc_time(int repeats) {
  struct timespec from, to;
  int code = 0;
  pthread_mutex_lock(&lock);
  code = opened_here() || check(cuda.wait(stream), "cannot wait");
  clock_gettime(CLOCK_MONOTONIC, &from);
  for (int i = 0; !code && i < repeats; i++) code = check(cuda.replay(graph, stream), "cannot launch");
  code = code || check(cuda.wait(stream), "a kernel failed");
  clock_gettime(CLOCK_MONOTONIC, &to);
  pthread_mutex_unlock(&lock);
  return code ? -1.0 : (to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec);
}

const char *qc_error(void) { return message; }

/* Opens the device: 0, or 1 and qc_error() says why. */
int qc_open(void) {
  pthread_mutex_lock(&lock);
  int code = opened_here();
  pthread_mutex_unlock(&lock);
  return code;
}
