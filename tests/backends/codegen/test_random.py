"""Random integer networks give the integers of the reference; ``QC_FUZZ=100:400`` tries more."""

import os
from pathlib import Path

import numpy as np
import pytest
from compiled import compile_all
from random_networks import random_network

FIRST, LAST = map(int, os.environ.get("QC_FUZZ", "0:4").split(":"))
TOGETHER = 10


@pytest.mark.parametrize("first", range(FIRST, LAST, TOGETHER))
@pytest.mark.parametrize("target", ["x86", "x86-amx", "cuda", "cuda-sm75"])
def test_random_networks(target: str, first: int, tmp_path: Path) -> None:
    seeds = range(first, min(first + TOGETHER, LAST))
    made = compile_all(target, {str(s): random_network(s) for s in seeds}, tmp_path / "out")
    got = made.artifact.run(made.feed)
    wrong = {
        f"{seed}: {name}": int((got[name] != made.want[name]).sum())
        for seed, names in made.outputs.items()
        for name in names
        if not np.array_equal(got[name], made.want[name])
    }
    assert wrong == {}
