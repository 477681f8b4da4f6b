"""What share of a network's products fits sums of 16 bits on AVX2, by the weights of artifacts.

    qc compile model.onnx --calib data.npz -o out && python benchmarks/short_sums.py out ...

`visits`: how often a step (four codes by the weights of eight channels) is read, in groups of two
and of four, in the mean over multiply-accumulates. `taken`: layers that get such a kernel without
being tuned, and their share of the multiply-accumulates. Depthwise layers are left out, and layers
of few pixels, which have other kernels.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import setting

from qc.backends.codegen.kernels import ConvWorkload
from qc.backends.codegen.lower import lower
from qc.backends.codegen.template import TemplateKernel, by_estimate
from qc.ir.text import load

HEADERS = ("network", "layers", "visits, by 2", "by 4", "taken", "of the products")


def kernels_of(folder: Path) -> list[TemplateKernel]:
    """The kernels of all layers whose weights were looked at."""
    found: list[TemplateKernel] = []

    def choose(workload: ConvWorkload, features: frozenset[str]) -> TemplateKernel:
        kernel = by_estimate(workload, features)
        if workload.visits:
            found.append(kernel)
        return kernel

    lower(load(folder), frozenset({"avx2"}), choose)
    return found


def row(folder: Path) -> list[object]:
    """The line of the table for one artifact."""
    kernels = kernels_of(folder)
    products = np.array([_products(k.workload) for k in kernels], float)
    visits = np.array([k.workload.visits for k in kernels]) / 16
    taken = np.array([k.name == "avx2-short" for k in kernels])
    by_two, by_four = products @ visits / products.sum()
    share = products[taken].sum() / products.sum()
    return [folder.name, len(kernels), by_two, by_four, int(taken.sum()), share]


def _products(workload: ConvWorkload) -> int:
    height, width = workload.kernel
    return workload.pixels * workload.y.channels * workload.x.channels * height * width


def main(folders: Sequence[str]) -> int:
    """Print the table."""
    if not folders:
        sys.exit("give folders of artifacts: python benchmarks/short_sums.py out ...")
    print(setting.markdown(HEADERS, [row(Path(folder)) for folder in folders]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
