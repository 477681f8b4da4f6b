/* Integers of few bits, stored without the rest: two's complement, the first in the lowest bits.
   Eight of them are as many bytes as one has bits. */
#include <string.h>

extern const unsigned char qc_codes[] __attribute__((visibility("hidden")));

static void qc_unpack(unsigned char *room) {
  const unsigned char *from = qc_codes;
  for (int k = 0; qc_packed[k].count; k++) {
    const int bits = qc_packed[k].bits, unused = 64 - bits, wide = qc_packed[k].itemsize == 2;
    unsigned char *to = room + qc_packed[k].offset;
    for (long long i = 0; i < qc_packed[k].count; i += 8, from += bits) {
      unsigned long long codes;
      memcpy(&codes, from, sizeof codes);
      for (int n = 0; n < 8; n++, codes >>= bits & 63) {
        const long long code = (long long)(codes << unused) >> unused;
        *to++ = (unsigned char)code;
        if (wide) *to++ = (unsigned char)(code >> 8);
      }
    }
  }
}
