/* The host code of a network on a CUDA device.

   qc_run(inputs..., outputs..., workspace) takes host pointers, the workspace unused; the first call
   opens the device.  One device arena holds constants, inputs, outputs and activations; the
   launches of `sequence` (generated, compiled by LLVM) are recorded once and replayed as a graph.
   Returns 0, or 1 and qc_error() says why.  Calls of several threads wait for each other.

   It follows driver.c.  The generated part before defines qc_inputs, qc_ports, qc_sizes (bytes of
   inputs, outputs and the arena), qc_kernels, qc_table and qc_least (the least device), and how
   constants are unpacked; the one behind it qc_run, a function for each kernel, `sequence`, which
   calls them all, and `prepare` for what is done once. */
#include <pthread.h>

#define ROOM(size) (((size) + 319) / 256 * 256)

extern const unsigned char qc_data[], qc_data_end[], qc_source[], qc_image[], qc_image_end[];
static int prepare(void), sequence(void);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int opened;
static CUmodule module;
static CUfunction functions[qc_kernels + 1];
static CUgraphExec graph;
static CUdeviceptr constants, unpacked;
static void *ports[qc_ports + 1];
static int failed;

static int load(int arch) {
  char *image = NULL;
  size_t size = 0;
  if (qc_image_end > qc_image) {
    int code = cuda.load(&module, qc_image);
    if (code != QC_NO_BINARY && code != QC_BAD_IMAGE) return check(code, "cannot load the kernels");
  }
  if (arch < qc_least) {
    char text[96];
    snprintf(text, sizeof text, "sm_%d, the network needs sm_%d or newer", arch, qc_least);
    return fail("the CUDA device is", text);
  }
  if (compile((const char *)qc_source, arch, &image, &size)) return 1;
  int code = cuda.load(&module, image);
  free(image);
  return check(code, "cannot load the kernels");
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

static int recorded(void) {
  failed = 0;
  sequence();
  return failed;
}

static int open_network(void) {
  int arch = 0;
  size_t total = ROOM(qc_data_end - qc_data) + ROOM((size_t)qc_room_bytes);
  CUdeviceptr arena = 0;
  if (open_device(&arch) || load(arch)) return 1;
  for (int i = 0; i < qc_kernels; i++)
    TRY(function(&functions[i], module, qc_table[i].name), qc_table[i].name);
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
  return record(recorded, &graph);
}

static int opened_here(void) {
  if (opened) return check(cuda.use(context), "cannot use the CUDA device");
  message[0] = 0;
  if (open_network()) return 1;
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
