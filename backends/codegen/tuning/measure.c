/* Times kernels, interleaved, on memory of their own.

   The generated part defines qc_count kernels and, for kernel k:
     qc_operands[k]   pointers that it takes
     qc_bytes[k][i]   bytes of operand i
     qc_fill[k][i]    what it holds: 0 zeros, 1 codes, 2 float32 numbers, 3 qc_content[k]
     qc_copies[k]     copies of the weights (operand 1) that calls go through in turn
     qc_call(k, p)    one call with the pointers p
   qc_measure(k, repeats) gives the nanoseconds of so many calls; below zero: no memory.
   As a program: milliseconds for each kernel, seconds after which one hangs, numbers of kernels
   (none: all). Every kernel first runs once in a process of its own: "! k why" says what became
   of one that died. Then "k ns" for one call, again and again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#ifdef QC_TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef QC_PROGRAM
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

enum { qc_slack = 256, qc_most = 8 };
static unsigned char *qc_memory[qc_count][qc_most];
static size_t qc_turn[qc_count];

static int64_t qc_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static size_t qc_room(int k, int i) { return (qc_bytes[k][i] + qc_slack + 63) / 64 * 64; }

static int qc_prepare(int k) {
  static uint32_t state = 1;
  if (qc_memory[k][0]) return 1;
#ifdef QC_TILES
  if (syscall(SYS_arch_prctl, 0x1023, 18)) return 0;
#endif
  for (int i = 0; i < qc_operands[k]; i++) {
    size_t room = qc_room(k, i) * (i == 1 ? qc_copies[k] : 1);
    unsigned char *m = aligned_alloc(64, room);
    if (!m) return 0;
    for (size_t b = 0; b + 4 <= room; b += 4) {
      state = state * 1664525u + 1013904223u;
      float real = (float)(state >> 8) / (1 << 24);
      uint32_t code = state ^ (state >> 15);
      if (qc_fill[k][i] == 0) code = 0;
      __builtin_memcpy(m + b, qc_fill[k][i] == 2 ? (void *)&real : (void *)&code, 4);
    }
    if (qc_fill[k][i] == 3)
      for (size_t at = 0; at < room; at += qc_room(k, i))
        __builtin_memcpy(m + at, qc_content[k], qc_bytes[k][i]);
    qc_memory[k][i] = m;
  }
  return 1;
}

int64_t qc_measure(int k, int64_t repeats) {
  void *p[qc_most];
  if (!qc_prepare(k)) return -1;
  for (int i = 0; i < qc_operands[k]; i++) p[i] = qc_memory[k][i];
  int64_t start = qc_now();
  for (int64_t n = 0; n < repeats; n++) {
    p[1] = qc_memory[k][1] + qc_turn[k] * qc_room(k, 1);
    qc_turn[k] = (qc_turn[k] + 1) % qc_copies[k];
    qc_call(k, p);
  }
  return qc_now() - start;
}

#ifdef QC_MODULE
/* The same for TVM's RPC: qc_measure(k, repeats), by the C calling convention of tvm-ffi. */
typedef struct { int32_t type, size; int64_t integer; } qc_any;
int __tvm_ffi_qc_measure(void *self, const qc_any *arguments, int32_t count, qc_any *result) {
  result->type = 1;
  result->size = 0;
  result->integer = qc_measure((int)arguments[0].integer, arguments[1].integer);
  return 0;
}
#endif

#ifdef QC_PROGRAM
static int qc_survives(int k, int limit) {
  int status;
  pid_t child = fork();
  if (child < 0) return 1;
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(limit);
    _exit(qc_measure(k, 1) < 0);
  }
  if (waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status)) return 1;
  if (WIFEXITED(status)) printf("! %d found no memory\n", k);
  else if (WTERMSIG(status) == SIGALRM) printf("! %d took more than %d s\n", k, limit);
  else printf("! %d died of signal %d\n", k, WTERMSIG(status));
  fflush(stdout);
  return 0;
}

int main(int count, char **words) {
  setvbuf(stdout, 0, _IOLBF, 0); /* what was printed outlives a kernel that dies later */
  static int kernels[qc_count];
  static int64_t repeats[qc_count];
  int64_t each = count > 1 ? atoll(words[1]) : 8;
  int limit = count > 2 ? atoi(words[2]) : 10, chosen = 0;
  int asked = count > 3 ? count - 3 : qc_count;
  for (int i = 0; i < asked && i < qc_count; i++) {
    int k = count > 3 ? atoi(words[3 + i]) : i;
    if (k >= 0 && k < qc_count && qc_survives(k, limit)) kernels[chosen++] = k;
  }
  for (int i = 0; i < chosen; i++) {
    if (qc_measure(kernels[i], 1) < 0) return fprintf(stderr, "no memory\n"), 3;
    int64_t once = qc_measure(kernels[i], 2) / 2 + 1;
    repeats[i] = 200000 / once + 1;
  }
  int64_t end = qc_now() + each * chosen * 1000000;
  for (int turn = 0; chosen && (turn < 7 || qc_now() < end); turn++)
    for (int i = 0; i < chosen; i++) {
      alarm(limit);
      printf("%d %.3f\n", kernels[i], (double)qc_measure(kernels[i], repeats[i]) / repeats[i]);
    }
  return 0;
}
#endif
