/* A CUDA device in plain C++ for x86-64: what generated kernels and launch.c use of one.

   Needs C's headers alone (zig as a C compiler has no others).  Threads of a block that wait for
   each other are fibers: each runs until it waits.  Every second block starts them in the opposite
   order, so that a missing barrier shows. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QC_EMULATED 1
#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define alignas(bytes) __attribute__((aligned(bytes))) /* may stand behind "static" */
#define CUDART_INF_F __builtin_inff()
#define CUDART_NAN_F __builtin_nanf("")

#define QC_AT(pointer, bytes) qc_at(pointer, bytes)

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef _Float16 half;
struct int2 { int x, y; };
struct int4 { int x, y, z, w; };
struct qc_index { unsigned x, y; };

static qc_index threadIdx, blockIdx;

/* A device refuses what this machine does not mind. */
template <class T> static inline T *qc_at(T *pointer, size_t bytes) {
  if ((size_t)pointer % bytes) {
    fprintf(stderr, "emulated device: %zu bytes at an address that is no multiple\n", bytes);
    exit(6);
  }
  return pointer;
}

template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }

/* As cvt.rni.s32.f32: half to even, saturating. */
static inline int __float2int_rn(float v) {
  if (v >= 2147483648.0f) return INT32_MAX;
  if (v <= -2147483648.0f) return INT32_MIN;
  return v == v ? (int)nearbyintf(v) : 0;
}

static inline int qc_dot(int u, int s, int c) {
  unsigned sum = (unsigned)c;
  for (int i = 0; i < 32; i += 8) sum += (unsigned)((int)(uchar)(u >> i) * (int)(int8_t)(s >> i));
  return (int)sum;
}

static inline uint qc_permute(uint x, uint y, uint s) {
  uint64_t both = (uint64_t)y << 32 | x;
  uint out = 0;
  for (int i = 0; i < 4; i++) out |= (uint)(uchar)(both >> 8 * (s >> 4 * i & 7)) << 8 * i;
  return out;
}

/* -- threads that wait for each other -- */

enum { QC_THREADS = 1024, QC_WARP = 32, QC_STACK = 1 << 16 };
struct qc_barrier { unsigned arrived, turn; };
struct qc_fiber { void *stack, *at; bool done; };

static qc_fiber qc_fibers[QC_THREADS];
static void *qc_scheduler;
static unsigned qc_threads, qc_current, qc_events;
static qc_barrier qc_whole, qc_warps[QC_THREADS / QC_WARP];
static void (*qc_body)(void **);
static void **qc_arguments;

extern "C" void qc_switch(void **from, void *to);
__asm__(".text\n.balign 16\nqc_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

static void qc_yield() {
  qc_fiber &own = qc_fibers[qc_current];
  qc_switch(&own.at, qc_scheduler);
}

static void qc_arrive(qc_barrier &barrier, unsigned threads) {
  unsigned turn = barrier.turn;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0, barrier.turn++, qc_events++;
    return;
  }
  while (barrier.turn == turn) qc_yield();
}

static void __syncthreads() { qc_arrive(qc_whole, qc_threads); }
static void qc_syncwarp() { qc_arrive(qc_warps[threadIdx.x / QC_WARP], QC_WARP); }

static void qc_enter() {
  qc_body(qc_arguments);
  qc_fibers[qc_current].done = true, qc_events++;
  for (;;) qc_yield();
}

static void qc_prepare(qc_fiber &fiber) {
  if (!fiber.stack) fiber.stack = aligned_alloc(64, QC_STACK);
  void **top = (void **)((char *)fiber.stack + QC_STACK - 64);
  *--top = NULL;
  *--top = (void *)qc_enter;
  for (int i = 0; i < 6; i++) *--top = NULL;
  fiber.at = top, fiber.done = false;
}

/* A block of threads that wait for each other. */
static void qc_team(bool backwards) {
  qc_whole.arrived = 0;
  for (unsigned i = 0; i < qc_threads; i++) {
    qc_prepare(qc_fibers[i]);
    qc_warps[i / QC_WARP].arrived = 0;
  }
  for (unsigned left = qc_threads; left;) {
    unsigned before = qc_events;
    left = 0;
    for (unsigned i = 0; i < qc_threads; i++) {
      qc_current = backwards ? qc_threads - 1 - i : i;
      if (qc_fibers[qc_current].done) continue;
      threadIdx.x = qc_current;
      qc_switch(&qc_scheduler, qc_fibers[qc_current].at);
      left += !qc_fibers[qc_current].done;
    }
    if (before == qc_events) {
      fprintf(stderr, "emulated device: a barrier that not all threads reach\n");
      exit(6);
    }
  }
}

/* mma.m16n8k32: a lane holds rows l/4 and l/4 + 8 of a at 4*(l%4) and 16 + 4*(l%4), column l/4 of b
   at the same places, and of c those rows at columns 2*(l%4) and the next. */
static int qc_lanes_a[QC_THREADS][4], qc_lanes_b[QC_THREADS][2];

static void qc_mma(int *c, const int *a, const int *b) {
  unsigned warp = threadIdx.x / QC_WARP * QC_WARP, lane = threadIdx.x % QC_WARP;
  memcpy(qc_lanes_a[threadIdx.x], a, 16);
  memcpy(qc_lanes_b[threadIdx.x], b, 8);
  qc_syncwarp();
  for (int i = 0; i < 4; i++) {
    unsigned row = warp + lane / 4 * 4, column = warp + (lane % 4 * 2 + i % 2) * 4;
    for (unsigned t = 0; t < 4; t++) {
      const int *from = qc_lanes_a[row + t], *with = qc_lanes_b[column + t];
      c[i] = qc_dot(from[i / 2], with[0], c[i]);
      c[i] = qc_dot(from[2 + i / 2], with[1], c[i]);
    }
  }
  qc_syncwarp();
}
