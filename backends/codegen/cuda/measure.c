/* Times kernels on a CUDA device, after each has given the values that it must give.

   It follows driver.c.  The generated part before defines qc_count kernels for sm_<qc_arch>, and of
   kernel k
     qc_table[k]      its name and its launch, for all samples of a batch
     qc_pointers[k]   pointers that it takes; the last one is the result
     qc_offset[k][i]  where operand i lies on the device
     qc_result[k]     where in qc_data the result lies that it must give for every sample, qc_size[k]
                      bytes of it; those of the samples are qc_step[k] bytes apart
     qc_near[k]       how far float32 results may be off; 0: bytes are compared
     qc_code[k]       its machine code (none: NVRTC makes it of qc_text[k])
   and qc_parts: what of qc_data is copied to which of the qc_room bytes on the device, how often.
   The program: milliseconds for each kernel, seconds after which one hangs, numbers of kernels
   (none: all), or "device", which prints the device's name.  It prints as measure.c of the cpu does:
   "! k why" for a kernel that failed, then "k ns" for one call, again and again.  Every kernel first
   runs in a process of its own, then those that were right run in turn in another one, which begins
   again without whoever ends it.  Status 4: it is the device that cannot be worked with. */
#include <math.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { qc_lost = 4, qc_fill = 0xa5, qc_most = 8, qc_slack = 256 };
enum { QC_LAUNCHES = 16, QC_ROUNDS = 64, QC_LEAST = 7, QC_PATIENCE = 6, QC_BLOCK = 1000000 };

/* What the processes of a run see of each other: the kernel at work (-1: none yet), the limit. */
static struct shared {
  int current, limit, rounds;
  char why[1024];
  double ns[QC_ROUNDS][qc_count];
} *shared;

static FILE *images[qc_count];
static CUdeviceptr operands, result;
static CUfunction functions[qc_count];
static CUgraphExec graphs[qc_count];
static int recording;

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void within(int seconds) {
  shared->limit = seconds;
  alarm(seconds);
}

static int open_right(void) {
  int arch = 0;
  char text[160];
  if (open_device(&arch)) return 1;
  if (arch == qc_arch) return 0;
  snprintf(text, sizeof text, "sm_%d, the kernels are for sm_%d: make them for a target of its arch",
           arch, qc_arch);
  return fail("the CUDA device is", text);
}

static int print_name(void) {
  char name[256] = "";
  int device = 0;
  if (open_right()) return 1;
  TRY(device(&device, 0), "no CUDA device");
  TRY(name(name, sizeof name - 1, device), "the CUDA device has no name");
  printf("%s sm_%d\n", name, qc_arch);
  return fflush(stdout), 0;
}

/* What a kernel can hardly be blamed for. */
static int probe(void) {
  if (open_right()) return 1;
  for (int k = 0; k < qc_count; k++)
    if (!qc_code[k]) return find_compiler();
  return 0;
}

static size_t results(int k) { return (qc_table[k].samples - 1) * qc_step[k] + qc_size[k]; }

static int upload(void) {
  size_t most = 0;
  for (int k = 0; k < qc_count; k++) most = most < results(k) ? results(k) : most;
  TRY(allocate(&operands, qc_room + qc_slack), "no memory on the CUDA device");
  for (size_t i = 0; i < sizeof qc_parts / sizeof *qc_parts; i++)
    for (size_t n = 0; n < qc_parts[i].copies; n++)
      TRY(upload(operands + qc_parts[i].to + n * qc_parts[i].step, qc_data + qc_parts[i].from,
                 qc_parts[i].size, stream), "cannot upload operands");
  TRY(allocate(&result, most + qc_slack), "no memory on the CUDA device");
  TRY(wait(stream), "cannot upload operands");
  return 0;
}

/* A fault of this machine, for which no kernel is blamed. */
static int fail_here(const char *what) {
  shared->current = -1;
  return fail(what, "on this machine for a kernel");
}

/* What NVRTC makes of a kernel, which is kept for the next process. */
static int translated(int k, char **image) {
  size_t size = 0;
  rewind(images[k]);
  if (fread(&size, sizeof size, 1, images[k]) == 1) {
    *image = malloc(size);
    return *image && fread(*image, 1, size, images[k]) == size ? 0 : fail_here("no memory");
  }
  if (compile(qc_text[k], qc_arch, image, &size)) return 1;
  rewind(images[k]);
  if (fwrite(&size, sizeof size, 1, images[k]) != 1 || fwrite(*image, 1, size, images[k]) != size ||
      fflush(images[k]))
    return fail_here("no space");
  return 0;
}

/* A kernel's code: embedded, and otherwise, or where the driver does not take that, by NVRTC. */
static int load(int k) {
  CUmodule module = NULL;
  char *image = NULL;
  int code = qc_code[k] ? cuda.load(&module, qc_code[k]) : QC_NO_BINARY;
  if (code == QC_NO_BINARY || code == QC_BAD_IMAGE) {
    if (translated(k, &image)) return 1;
    code = cuda.load(&module, image);
    free(image);
  }
  if (check(code, "cannot load the kernel")) return 1;
  TRY(function(&functions[k], module, qc_table[k].name), qc_table[k].name);
  return 0;
}

static int launch(int k) {
  void *addresses[qc_most], *p[qc_most];
  for (int i = 0; i < qc_pointers[k]; i++) {
    CUdeviceptr at = i + 1 < qc_pointers[k] ? operands + qc_offset[k][i] : result;
    addresses[i] = (void *)(size_t)at;
    p[i] = &addresses[i];
  }
  const struct qc_kernel *t = &qc_table[k];
  TRY(launch(functions[k], t->blocks, t->samples, 1, t->threads, 1, 1, 0, stream, p, NULL),
      "cannot launch");
  return 0;
}

static int launches(void) {
  for (int i = 0; i < QC_LAUNCHES; i++)
    if (launch(recording)) return 1;
  return 0;
}

static size_t differing(int k, const unsigned char *got) {
  const unsigned char *want = qc_data + qc_result[k];
  size_t found = 0, step = qc_near[k] > 0 ? sizeof(float) : 1;
  for (size_t i = 0; i < qc_size[k]; i += step) {
    float a, b;
    if (step == 1) {
      found += got[i] != want[i];
      continue;
    }
    memcpy(&a, got + i, sizeof a);
    memcpy(&b, want + i, sizeof b);
    found += !(fabsf(a - b) <= qc_near[k]);
  }
  return found;
}

/* Run once on memory that holds nothing of the result, and compare. */
static int verify(int k) {
  char text[64];
  unsigned char *got = malloc(qc_size[k]);
  if (!got) return fail_here("no memory");
  TRY(clear(result, qc_fill, results(k)), "cannot clear memory");
  if (launch(k)) return 1;
  TRY(wait(stream), "it failed");
  size_t wrong = 0;
  for (unsigned n = 0; n < qc_table[k].samples; n++) {
    TRY(download(got, result + n * qc_step[k], qc_size[k], stream), "cannot download");
    TRY(wait(stream), "cannot download");
    wrong += differing(k, got);
  }
  free(got);
  if (!wrong) return 0;
  snprintf(text, sizeof text, "%zu of %zu bytes or reals", wrong, qc_table[k].samples * qc_size[k]);
  return fail("differs from the integer reference", text);
}

/* Nanoseconds of one of so many replays of all launches. */
static int replays(int k, int count, double *ns) {
  long long start = now();
  for (int i = 0; i < count; i++) TRY(replay(graphs[k], stream), "cannot launch");
  TRY(wait(stream), "it failed");
  *ns = (double)(now() - start) / count;
  return 0;
}

static int alone(const int *kernels, int count, int limit, int each) {
  (void)count, (void)each;
  within(QC_PATIENCE * limit);
  if (open_right() || upload()) return 1;
  shared->current = kernels[0];
  if (load(kernels[0])) return 1;
  within(limit);
  return verify(kernels[0]);
}

static int together(const int *kernels, int count, int limit, int each) {
  int repeats[qc_count];
  within(QC_PATIENCE * limit);
  if (open_right() || upload()) return 1;
  for (int i = 0; i < count; i++) {
    double ns;
    int k = recording = shared->current = kernels[i];
    within(limit);
    if (load(k) || record(launches, &graphs[k]) || replays(k, 1, &ns) || replays(k, 2, &ns)) return 1;
    repeats[i] = (int)(QC_BLOCK / (ns + 1)) + 1;
  }
  long long end = now() + 1000000ll * each * count;
  for (int turn = 0; turn < QC_ROUNDS && (turn < QC_LEAST || now() < end); turn++) {
    for (int i = 0; i < count; i++) {
      double ns;
      shared->current = kernels[i];
      within(limit);
      if (replays(kernels[i], repeats[i], &ns)) return 1;
      shared->ns[turn][kernels[i]] = ns / QC_LAUNCHES;
    }
    shared->rounds = turn + 1;
  }
  for (int i = 0; i < count; i++) {
    shared->current = kernels[i];
    within(limit);
    if (verify(kernels[i])) return 1; /* many launches may show what one did not */
  }
  return 0;
}

/* Do it in a process that may die: whether it came to its end, else shared->why. */
static int survives(int (*work)(const int *, int, int, int), const int *kernels, int count, int limit,
                    int each) {
  int status = 0;
  shared->why[0] = 0;
  shared->rounds = 0;
  shared->current = -1;
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int code = work(kernels, count, limit, each);
    if (code) memcpy(shared->why, message, sizeof message);
    _exit(code);
  }
  if (child < 0 || waitpid(child, &status, 0) != child) {
    snprintf(shared->why, sizeof shared->why, "no process for a kernel");
    return 0;
  }
  if (WIFEXITED(status) && !WEXITSTATUS(status)) return 1;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
    snprintf(shared->why, sizeof shared->why, "took more than %d s", shared->limit);
  else if (WIFSIGNALED(status))
    snprintf(shared->why, sizeof shared->why, "died of signal %d", WTERMSIG(status));
  return 0;
}

/* Say what became of a kernel; whether it was none: then it is the device. */
static int blame(void) {
  if (shared->current < 0) return fprintf(stderr, "%s\n", shared->why), 1;
  printf("! %d ", shared->current);
  for (char *c = shared->why; *c; c++) /* one line, without what a script or JSON makes something of */
    putchar(*c < ' ' || *c > '~' || strchr("\"\\;", *c) ? ' ' : *c);
  putchar('\n');
  return 0;
}

static int work_probe(const int *kernels, int count, int limit, int each) {
  (void)kernels, (void)count, (void)each;
  within(QC_PATIENCE * limit);
  return probe();
}

int main(int count, char **words) {
  int kernels[qc_count], chosen = 0;
  if (count == 2 && !strcmp(words[1], "device"))
    return print_name() ? fprintf(stderr, "%s\n", message), qc_lost : 0;
  int each = count > 1 ? atoi(words[1]) : 20, limit = count > 2 ? atoi(words[2]) : 10;
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return fprintf(stderr, "no memory\n"), qc_lost;
  if (!survives(work_probe, NULL, 0, limit, 0)) return fprintf(stderr, "%s\n", shared->why), qc_lost;
  for (int i = 0; i < (count > 3 ? count - 3 : qc_count) && i < qc_count; i++) {
    int k = count > 3 ? atoi(words[3 + i]) : i;
    if (k < 0 || k >= qc_count || !(images[k] = tmpfile()))
      return fprintf(stderr, "no kernel, or no space for one\n"), qc_lost;
    if (survives(alone, &k, 1, limit, 0)) kernels[chosen++] = k;
    else if (blame()) return qc_lost;
  }
  while (chosen && !survives(together, kernels, chosen, limit, each)) {
    int left = 0;
    if (blame()) return qc_lost;
    for (int i = 0; i < chosen; i++)
      if (kernels[i] != shared->current) kernels[left++] = kernels[i];
    chosen = left;
  }
  for (int turn = 0; turn < shared->rounds; turn++)
    for (int i = 0; i < chosen; i++) printf("%d %.3f\n", kernels[i], shared->ns[turn][kernels[i]]);
  return 0;
}
