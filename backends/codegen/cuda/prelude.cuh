/* What generated kernels call.  Works in nvcc, in NVRTC (no header is included), and in a C++
   compiler after emulated.cuh. */
#ifndef QC_EMULATED
#define QC_AT(pointer, bytes) (pointer)
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#endif

#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_NAN_F __int_as_float(0x7fffffff)

/* float16 at the network's boundary; it is computed with as float32. */
struct half {
  ushort bits;
  half() = default;
  __device__ __forceinline__ half(float v) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v)); }
  __device__ __forceinline__ operator float() const {
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
    return v;
  }
};

/* c + the products of four uint8 and four int8. */
static __device__ __forceinline__ int qc_dot(int u, int s, int c) {
  int d;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(u), "r"(s), "r"(c));
  return d;
}

#if __CUDA_ARCH__ >= 800
/* c[16][8] += a[16][32] (uint8) * b[32][8] (int8), spread over the lanes of a warp. */
static __device__ __forceinline__ void qc_mma(int *c, const int *a, const int *b) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

/* Bytes 0..3 of x, then of y, chosen by the digits of s. */
static __device__ __forceinline__ uint qc_permute(uint x, uint y, uint s) {
  return __byte_perm(x, y, s);
}
#endif

/* Memory whose addresses are known to be multiples of `aligned` bytes: maps of few channels, and
   slices of channels, need not be aligned to what is loaded at once. */
static __device__ constexpr int qc_least(int a, int b) { return a < b ? a : b; }

template <int aligned> static __device__ __forceinline__ int qc_word(const void *p) {
  if constexpr (aligned % 4 == 0) return *(const int *)QC_AT(p, 4);
  const uchar *b = (const uchar *)p;
  return (int)(b[0] | b[1] << 8 | b[2] << 16 | (uint)b[3] << 24);
}

template <int aligned> static __device__ __forceinline__ void qc_load4(int *to, const void *p) {
  *to = qc_word<aligned>(p);
}

template <int aligned>
static __device__ __forceinline__ void qc_load8(int *low, int *high, const void *p) {
  if constexpr (aligned % 8 == 0) {
    int2 v = *(const int2 *)QC_AT(p, 8);
    *low = v.x, *high = v.y;
  } else {
    *low = qc_word<aligned>(p), *high = qc_word<aligned>((const uchar *)p + 4);
  }
}

template <int aligned> static __device__ __forceinline__ void qc_load16(int *to, const void *p) {
  if constexpr (aligned % 16 == 0) {
    int4 v = *(const int4 *)QC_AT(p, 16);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  } else {
    for (int i = 0; i < 4; i++) to[i] = qc_word<aligned>((const uchar *)p + 4 * i);
  }
}

template <int aligned> static __device__ __forceinline__ void qc_store2(uchar *p, int a, int b) {
  if constexpr (aligned % 2 == 0)
    *(ushort *)QC_AT(p, 2) = (ushort)(a | b << 8);
  else
    p[0] = (uchar)a, p[1] = (uchar)b;
}

template <int aligned>
static __device__ __forceinline__ void qc_store4(uchar *p, int a, int b, int c, int d) {
  if constexpr (aligned % 4 == 0)
    *(uint *)QC_AT(p, 4) = (uint)a | (uint)b << 8 | (uint)c << 16 | (uint)d << 24;
  else
    p[0] = (uchar)a, p[1] = (uchar)b, p[2] = (uchar)c, p[3] = (uchar)d;
}

/* The first bytes of a word, the rest zeros. */
static __device__ __forceinline__ int qc_keep(int word, int bytes) {
  return bytes >= 4 ? word : bytes <= 0 ? 0 : word & (int)((1u << 8 * bytes) - 1u);
}

/* Four words of four bytes: byte j of word i becomes byte i of word j. */
static __device__ __forceinline__ void qc_transpose(int *w) {
  uint ab = qc_permute(w[0], w[1], 0x5140), cd = qc_permute(w[2], w[3], 0x5140);
  uint ef = qc_permute(w[0], w[1], 0x7362), gh = qc_permute(w[2], w[3], 0x7362);
  w[0] = (int)qc_permute(ab, cd, 0x5410), w[1] = (int)qc_permute(ab, cd, 0x7632);
  w[2] = (int)qc_permute(ef, gh, 0x5410), w[3] = (int)qc_permute(ef, gh, 0x7632);
}
