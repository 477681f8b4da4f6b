"""What a cpu can do at most, as calls to be timed beside kernels: ``peak.c``.

python benchmarks/peaks.py          # billions of multiply-accumulates a second
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import setting

from qc.backends.codegen.link import compiler, run_compiler
from qc.scoring import peers
from qc.targets import load

_SOURCE = Path(__file__).parent / "peak.c"
_OF_FEATURE = {
    "amx-int8": "qc_peak_amx", "avx512vnni": "qc_peak_avx512vnni", "avx2": "qc_peak_avx2_short",
}  # fmt: skip
"""The fastest first: cpus have all features after the one that they are asked for."""

_SLOWER = {"avx2": ("qc_peak_avx2", "qc_peak_avx2_saturated")}
"""Loops of the same instruction sets, which kernels of ours or of others are made of."""

_OTHER = {"avxvnni"}
"""Features whose dot products have no loop in ``peak.c``, and more than those of the next one."""

_ROUNDS = 20_000
READ = "read"


@dataclass(frozen=True)
class Peak:
    """A loop on registers: the name of its call, and multiply-accumulates of one call."""

    name: str
    macs: int


def peak_of(features: Iterable[str]) -> str | None:
    """The function of ``peak.c`` for what kernels may use; None where it has none."""
    known = frozenset(features)
    if known & _OTHER and "avx512vnni" not in known:
        return None
    return next((name for feature, name in _OF_FEATURE.items() if feature in known), None)


class Peaks:
    """``peak.c``, compiled in a scratch ``folder`` and loaded."""

    def __init__(self, folder: Path) -> None:
        (folder / _SOURCE.name).write_text(_SOURCE.read_text())
        flags = ["-O2", "-shared", "-fPIC", "-o", "peak.so"]
        run_compiler([*compiler(), *flags, _SOURCE.name], folder)
        self._library = ctypes.CDLL(str(folder / "peak.so"))

    def loop(self, name: str) -> tuple[Peak, Callable[[], object]]:
        """A loop on registers, and a call of some rounds of it."""
        function = getattr(self._library, name)
        function.restype, function.argtypes = ctypes.c_int64, [ctypes.c_int64]
        return Peak(name, int(function(_ROUNDS))), lambda: function(_ROUNDS)

    def read(self, size: int) -> Callable[[], object]:
        """A call that reads ``size`` bytes, which may lie in any cache that they fit."""
        memory = np.ones(size, np.int8)  # zeros that nobody wrote would all be the same page
        function = self._library.qc_read
        function.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        return lambda: function(memory.ctypes.data, memory.nbytes)


def main() -> None:
    """Print the medians of the loops that this cpu has, timed in turn."""
    features = load("host").features
    names = [name for f, name in _OF_FEATURE.items() if f in features]
    names += [name for f, more in _SLOWER.items() if f in features for name in more]
    with tempfile.TemporaryDirectory(prefix="qc-bench-") as folder:
        peaks = Peaks(Path(folder))
        loops = {name: peaks.loop(name) for name in names}
        medians = peers.Contest({name: call for name, (_, call) in loops.items()}, 5.0).medians()
    rows = [[name, peak.macs / medians[name] / 1e6] for name, (peak, _) in loops.items()]
    print(setting.markdown(("loop", "GMAC/s"), rows))


if __name__ == "__main__":
    main()
