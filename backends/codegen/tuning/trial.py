"""Kernels as something to time: compiled, with the sizes of their operands, linked with a timer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..kernels import ConvWorkload, DepthwiseWorkload, FloatEpilogue, ShortConv
from ..link import run_compiler
from ..template import TemplateKernel

Content = bytes
MOST = 8
"""Pointers that a kernel takes at most (``measure.c``)."""


@dataclass(frozen=True)
class Operand:
    """An operand: its size in memory, and whether it holds float32 numbers (None: zeros).

    ``content``: what weights hold where a kernel's path depends on them.
    """

    bytes: int
    real: bool | None
    content: Content = b""

    @property
    def fill(self) -> int:
        """The number that ``measure.c`` has for it."""
        if self.content:
            return 3
        return 0 if self.real is None else 1 + self.real


@dataclass(frozen=True)
class Trial:
    """A compiled kernel, its iterations, and its operands in the order of its signature.

    Calls go through ``copies`` of the second operand, the weights.
    """

    object: bytes
    extent: int
    operands: tuple[Operand, ...]
    copies: int = 1

    @property
    def content(self) -> Content:
        """What the operand that has some holds."""
        return b"".join(operand.content for operand in self.operands)


def operands_of(kernel: TemplateKernel) -> tuple[Operand, ...]:
    """The operands of a template's kernel: x, weights, bias, what the epilogue takes, y."""
    w, e = kernel.workload, kernel.workload.epilogue
    real = isinstance(e, FloatEpilogue)
    channels = Operand(4 * w.y.channels, real)
    sizes = [Operand(_bytes(w.x), real), _weights(kernel), channels]
    if not isinstance(e, FloatEpilogue):
        sizes.append(Operand(4 * w.y.channels, True))
    if w.residual is not None:
        sizes.append(Operand(_bytes(w.residual), real))
    if getattr(e, "table", False):
        sizes.append(Operand(256, False))
    y = Operand(_bytes(w.y), np.dtype(w.y.dtype).kind == "f")
    return (*sizes, y)


def _bytes(view: object) -> int:
    return int(view.span * np.dtype(view.dtype).itemsize)  # type: ignore[attr-defined]


def _weights(kernel: TemplateKernel) -> Operand:
    """Packed weights: as many as of zeros, or the template's own sample."""
    w: ConvWorkload = kernel.workload
    real = isinstance(w.epilogue, FloatEpilogue)
    template = kernel.template
    if isinstance(template, ShortConv):
        sample = template.sample(w, kernel.knobs).tobytes()
        return Operand(len(sample), real, sample)
    inputs = 1 if isinstance(w, DepthwiseWorkload) else w.x.channels
    zeros = np.zeros((w.y.channels, inputs, *w.kernel), np.float32 if real else np.int8)
    return Operand(int(kernel.pack(zeros).nbytes), real)


def make_trial(kernel: TemplateKernel, compiled: tuple[bytes, int], cache: int) -> Trial:
    """A compiled kernel with copies of the weights that fill half of a ``cache`` of so many bytes.

    In a network other layers' weights have pushed a layer's own out of L1.
    """
    operands = operands_of(kernel)
    copies = max(1, min(64, cache // 2 // max(operands[1].bytes, 1)))
    return Trial(compiled[0], compiled[1], operands, copies)


def link_trials(
    trials: Mapping[str, Trial], folder: Path, command: Sequence[str], flags: Sequence[str]
) -> Path:
    """The kernels with their timer, linked by ``command`` with ``flags``; the file's path."""
    for name, trial in trials.items():
        (folder / f"{name}.o").write_bytes(trial.object)
        (folder / f"{name}.bin").write_bytes(trial.content)
    (folder / "trials.c").write_text(_declared(trials) + _TIMER.read_text())
    objects = [f"{name}.o" for name in trials]
    run_compiler(
        [*command, "-O1", "-s", *flags, "-o", "trials.so", "trials.c", *objects, "-lm"], folder
    )
    return folder / "trials.so"


_TIMER = Path(__file__).parent / "measure.c"


def _declared(trials: Mapping[str, Trial]) -> str:
    """The generated part of ``measure.c``."""
    every = list(trials.values())
    assert all(len(t.operands) <= MOST for t in every)
    cases = "\n".join(_case(k, name, trial) for k, (name, trial) in enumerate(trials.items()))
    sizes = ", ".join(braced(o.bytes for o in t.operands) for t in every)
    fills = ", ".join(braced(o.fill for o in t.operands) for t in every)
    contents = "".join(map(_content, trials))
    return f"""#define _GNU_SOURCE
#include <stddef.h>
enum {{ qc_count = {len(every)} }};
{contents}
static const unsigned char *const qc_content[] = {braced(f"{name}_content" for name in trials)};
static const int qc_operands[] = {braced(len(t.operands) for t in every)};
static const size_t qc_copies[] = {braced(t.copies for t in every)};
static const size_t qc_bytes[][{MOST}] = {{{sizes}}};
static const char qc_fill[][{MOST}] = {{{fills}}};
static void qc_call(int k, void **p) {{
  switch (k) {{
{cases}
  }}
}}
"""


def _content(name: str) -> str:
    """What the weights of a kernel hold, which may be nothing."""
    return (
        f'__asm__(".section .rodata\\n{name}_content:\\n.incbin \\"{name}.bin\\"\\n.previous");\n'
        f'extern const unsigned char {name}_content[] __attribute__((visibility("hidden")));\n'
    )


def _case(k: int, name: str, trial: Trial) -> str:
    count = len(trial.operands)
    types = ", ".join(["void *"] * count)
    pointers = ", ".join(f"p[{i}]" for i in range(count))
    return (
        f"  case {k}: {{ extern void {name}({types}, int, int); "
        f"{name}({pointers}, 0, {trial.extent}); break; }}"
    )


def braced(items: Iterable[object]) -> str:
    """An initializer of C."""
    return "{" + ", ".join(map(str, items)) + "}"
