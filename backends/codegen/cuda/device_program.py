"""The text of a network for a CUDA device: its kernels, and the C around them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..program import Program
from .source import Source

SEQUENCE = "qc_sequence"
"""The generated function that launches all kernels in order."""

PREPARE = "qc_prepare"
"""The one that launches what is done once."""

_HERE = Path(__file__).parent

BLOB = """
#define QC_BLOB(name, file)                                                           \\
  __asm__(".section .rodata,\\"a\\"\\n.balign 64\\n.hidden " name "\\n.globl " name "\\n"  \\
          ".hidden " name "_end\\n.globl " name "_end\\n"                              \\
          name ":\\n.incbin \\"" file "\\"\\n" name "_end:\\n.byte 0\\n.previous\\n");
"""
"""The macro that takes a file into a C source, as the bytes from a name up to name_end."""

_BLOBS = """
QC_BLOB("qc_data", "constants.bin")
QC_BLOB("qc_codes", "packed.bin")
QC_BLOB("qc_source", "network.cu")
QC_BLOB("qc_image", "network.cubin")
"""


def text_of(name: str) -> str:
    """A file of this folder."""
    return (_HERE / name).read_text()


@dataclass(frozen=True)
class DeviceProgram:
    """A placed program, the sources of its kernels, and the bytes of its ports in order.

    ``launches``: object files of the functions that call the kernels, by name.
    """

    program: Program
    sources: Mapping[str, Source]
    sizes: Sequence[int]
    arch: str
    launches: Mapping[str, bytes]

    @property
    def device_bytes(self) -> int:
        """Memory that the network takes on the device."""
        held = self.program.constants
        rooms = (len(held.data), held.room, *self.sizes, max(self.program.arena, 64))
        return sum((size + 319) // 256 * 256 for size in rooms)

    def kernels(self) -> str:
        """The CUDA source of all kernels."""
        return "\n".join([text_of("prelude.cuh"), *(s.text for s in self.sources.values())])

    def host(self) -> str:
        """The C source of the host code."""
        return "\n".join([text_of("driver.h"), self._declarations(),
                          self.program.constants.source(), text_of("driver.c"),
                          text_of("launch.c"), self._launches(), BLOB, _BLOBS])  # fmt: skip

    def emulated(self) -> str:
        """The C++ source of the emulated device with the same kernels (in ``network.cu``)."""
        known = " ".join(f"X({s.name}, {int(s.team)})" for s in self.sources.values())
        return "\n".join([text_of("emulated.cuh"), '#include "network.cu"',
                          f"#define QC_KERNELS(X) {known}", text_of("emulated.inc")])  # fmt: skip

    def _declarations(self) -> str:
        inputs, ports = len(self.program.inputs), len(self.sizes)
        sizes = ", ".join(map(str, (*self.sizes, max(self.program.arena, 64))))
        table = "".join(
            f'  {{"{s.name}", {s.blocks}, {s.samples}, {s.threads}}},\n'
            for s in self.sources.values()
        )
        return f"""
enum {{ qc_inputs = {inputs}, qc_ports = {ports}, qc_kernels = {len(self.sources)} }};
enum {{ qc_least = {self.arch.removeprefix("sm_")} }};
static const size_t qc_sizes[] = {{{sizes}}};
static const struct qc_kernel qc_table[] = {{
{table}  {{NULL, 0, 0, 0}}}};
"""

    def _launches(self) -> str:
        """A function for each kernel, and the two that take all ports."""
        calls = (*self.program.calls, *self.program.once)
        pointers = {call.symbol: len(call.pointers) for call in calls}
        launches = [
            f"int {name}({_list('void *p{}', pointers[name])}, int lo, int hi) {{\n"
            f"  void *p[] = {{{_list('&p{}', pointers[name])}}};\n"
            f"  return launch({number}, p);\n}}\n"
            for number, name in enumerate(self.sources)
        ]
        count = len(self.sizes) + 1
        return "".join([*launches, f"""
extern int {PREPARE}({_list("void *", count)}), {SEQUENCE}({_list("void *", count)});
static int prepare(void) {{ return {PREPARE}({_list("ports[{}]", count)}); }}
static int sequence(void) {{ return {SEQUENCE}({_list("ports[{}]", count)}); }}
int qc_run({_list("void *p{}", count)}) {{
  void *p[] = {{{_list("p{}", count)}}};
  int code = guarded(p);
#ifdef QC_EMULATED
  if (code) fprintf(stderr, "%s\\n", qc_error()), exit(5);
#endif
  return code;
}}
"""])  # fmt: skip


def _list(form: str, count: int) -> str:
    return ", ".join(form.format(i) for i in range(count))
