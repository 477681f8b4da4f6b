/* A compiled network as a program of its own: no TVM, no shared library.

   Requests on standard input: int32 repeats, then the bytes of all inputs.
   Answers on standard output: the bytes of all outputs, then int64 nanoseconds of all repeats.
   The generated part defines qc_inputs, qc_ports, qc_sizes (bytes of inputs, outputs and the
   workspace) and qc_call. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int main(void) {
  void *memory[qc_ports + 1];
  for (int i = 0; i <= qc_ports; i++) {
    size_t room = (qc_sizes[i] + 127) / 64 * 64;
    unsigned char *bytes = aligned_alloc(64, room);
    if (!bytes) return fprintf(stderr, "out of memory: %zu bytes\n", room), 3;
    for (size_t k = 0; k < room; k++) bytes[k] = 0;
    memory[i] = bytes;
  }
  int32_t repeats;
  while (fread(&repeats, sizeof repeats, 1, stdin) == 1) {
    for (int i = 0; i < qc_inputs; i++)
      if (qc_sizes[i] && fread(memory[i], qc_sizes[i], 1, stdin) != 1) return 4;
    int64_t start = now();
    for (int32_t k = 0; k < repeats; k++) qc_call(memory);
    int64_t spent = now() - start;
    for (int i = qc_inputs; i < qc_ports; i++)
      if (qc_sizes[i]) fwrite(memory[i], qc_sizes[i], 1, stdout);
    fwrite(&spent, sizeof spent, 1, stdout);
    fflush(stdout);
  }
  return 0;
}
