/* Loops of an instruction set's multiply-accumulates on registers: nothing is loaded or stored.
 *
 * Each qc_peak_X(rounds) returns how many multiply-accumulates it did.  qc_read reads memory. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOOP(body) "1:\n" body "dec %0\n jnz 1b\n"

/* Sixteen products of int16 pairs, as exact code for uint8 x int8 has them without VNNI. */
#define PAIR(acc) "vpmaddwd %%ymm14, %%ymm15, %%ymm13\n vpaddd %%ymm13, %%ymm" acc ", %%ymm" acc "\n"
int64_t qc_peak_avx2(int64_t rounds) {
  int64_t left = rounds;
  __asm__ volatile(LOOP(PAIR("0") PAIR("1") PAIR("2") PAIR("3") PAIR("4") PAIR("5")
                        PAIR("6") PAIR("7") PAIR("8") PAIR("9") PAIR("10") PAIR("11"))
                   : "+r"(left) : : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                     "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm13");
  return rounds * 12 * 16;
}

/* Sixty-four products of uint8 and int8, where the sums of four fit 16 bits. */
#define SHORT(acc) "vpmaddubsw %%ymm14, %%ymm15, %%ymm13\n vpmaddubsw %%ymm14, %%ymm15, %%ymm12\n" \
                   "vpaddw %%ymm12, %%ymm13, %%ymm13\n vpmaddwd %%ymm13, %%ymm14, %%ymm13\n"       \
                   "vpaddd %%ymm13, %%ymm" acc ", %%ymm" acc "\n"
int64_t qc_peak_avx2_short(int64_t rounds) {
  int64_t left = rounds;
  __asm__ volatile(LOOP(SHORT("0") SHORT("1") SHORT("2") SHORT("3") SHORT("4") SHORT("5")
                        SHORT("6") SHORT("7") SHORT("8") SHORT("9") SHORT("10") SHORT("11"))
                   : "+r"(left) : : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                     "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13");
  return rounds * 12 * 64;
}

/* Thirty-two of them, as code has it that lets 16 bits saturate. */
#define SATURATED(acc) "vpmaddubsw %%ymm14, %%ymm15, %%ymm13\n vpmaddwd %%ymm13, %%ymm14, %%ymm13\n" \
                       "vpaddd %%ymm13, %%ymm" acc ", %%ymm" acc "\n"
int64_t qc_peak_avx2_saturated(int64_t rounds) {
  int64_t left = rounds;
  __asm__ volatile(LOOP(SATURATED("0") SATURATED("1") SATURATED("2") SATURATED("3")
                        SATURATED("4") SATURATED("5") SATURATED("6") SATURATED("7")
                        SATURATED("8") SATURATED("9") SATURATED("10") SATURATED("11"))
                   : "+r"(left) : : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                     "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm13");
  return rounds * 12 * 32;
}

#define WIDE(acc) "vpdpbusd %%zmm14, %%zmm15, %%zmm" acc "\n"
int64_t qc_peak_avx512vnni(int64_t rounds) {
  int64_t left = rounds;
  __asm__ volatile(LOOP(WIDE("0") WIDE("1") WIDE("2") WIDE("3") WIDE("4") WIDE("5")
                        WIDE("6") WIDE("7") WIDE("8") WIDE("9") WIDE("10") WIDE("11"))
                   : "+r"(left) : : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                     "xmm7", "xmm8", "xmm9", "xmm10", "xmm11");
  return rounds * 12 * 64;
}

/* Four accumulators of 16 x 16, each fed by 16 rows of 64 bytes on either side. */
int64_t qc_peak_amx(int64_t rounds) {
  struct { uint8_t palette, row, reserved[14]; uint16_t columns[16]; uint8_t rows[16]; } shape;
  int64_t left = rounds;
  memset(&shape, 0, sizeof shape);
  shape.palette = 1;
  for (int i = 0; i < 8; i++) { shape.columns[i] = 64; shape.rows[i] = 16; }
  syscall(SYS_arch_prctl, 0x1023, 18);
  __asm__ volatile("ldtilecfg %1\n tilezero %%tmm4\n tilezero %%tmm5\n tilezero %%tmm6\n"
                   "tilezero %%tmm7\n"
                   LOOP("tdpbusd %%tmm5, %%tmm4, %%tmm0\n tdpbusd %%tmm7, %%tmm4, %%tmm1\n"
                        "tdpbusd %%tmm5, %%tmm6, %%tmm2\n tdpbusd %%tmm7, %%tmm6, %%tmm3\n")
                   "tilerelease\n"
                   : "+r"(left) : "m"(shape) : "cc", "memory");
  return rounds * 4 * 16 * 16 * 64;
}

typedef long long vector __attribute__((vector_size(32), aligned(8)));

/* Reads memory in four streams: what a kernel that only reads is bound by. */
__attribute__((target("avx2"))) int64_t qc_read(const char *memory, int64_t bytes) {
  vector a = {0}, b = {0}, c = {0}, d = {0};
  int64_t part = bytes / 4 / 64 * 64;
  for (const char *p = memory; p < memory + part; p += 64) {
    a += *(const vector *)p + *(const vector *)(p + 32);
    b += *(const vector *)(p + part) + *(const vector *)(p + part + 32);
    c += *(const vector *)(p + 2 * part) + *(const vector *)(p + 2 * part + 32);
    d += *(const vector *)(p + 3 * part) + *(const vector *)(p + 3 * part + 32);
  }
  a += b + c + d;
  return (a[0] + a[1] + a[2] + a[3]) & 1;
}
