"""Machine code of CUDA kernels holds what their target's features promise, and nothing else."""

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from test_instructions import WORKLOADS

from qc import targets
from qc.backends.codegen.cuda import nvcc
from qc.backends.codegen.cuda.device_program import text_of
from qc.backends.codegen.cuda.product import (
    DeviceProduct,
    device_product,
    matrices_of,
    tiles_of,
)
from qc.backends.codegen.cuda.source import Translate
from qc.backends.codegen.layout import Strided
from qc.backends.codegen.template import by_estimate, candidates
from qc.ir.ops import integer

PROMISED = {
    "cuda": {"conv": ["IMMA.16832.U8.S8"], "depthwise": ["IDP.4A.U8.S8"], "float": ["FFMA"]},
    "cuda-sm75": {"conv": ["IDP.4A.U8.S8"], "depthwise": ["IDP.4A.U8.S8"], "float": ["FFMA"]},
    "cuda-sm90": {"conv": ["IMMA.16832.U8.S8"], "depthwise": ["IDP.4A.U8.S8"], "float": ["FFMA"]},
}
LACKING = {
    "cuda": ["HMMA", "STL", "LDL"],
    "cuda-sm75": ["IMMA", "HMMA", "STL", "LDL"],
    "cuda-sm90": ["HMMA", "STL", "LDL"],
}
"""STL and LDL are registers that went to memory."""


def tools() -> str | None:
    """The path with NVIDIA's disassemblers: installed, or of their wheels."""
    spec = find_spec("nvidia")
    places = list(spec.submodule_search_locations or ()) if spec else []
    path = [os.environ["PATH"], *(str(f) for p in places for f in Path(p).glob("*/bin"))]
    known = os.pathsep.join(path)
    both = all(shutil.which(tool, path=known) for tool in ("cuobjdump", "nvdisasm"))
    return known if both else None


def machine_code(kernel: object, target: targets.Target, folder: Path) -> str:
    """The instructions of a kernel."""
    source = Translate(kernel, "kernel", target.tvm(), (64,) * 8)()  # type: ignore[arg-type]
    return disassembled("--dump-sass", source.text, target, folder)


def disassembled(what: str, kernels: str, target: targets.Target, folder: Path) -> str:
    """What cuobjdump says of the code that nvcc makes."""
    if nvcc.nvcc() is None:
        pytest.skip("no nvcc here")
    if (path := tools()) is None:
        pytest.skip("no cuobjdump: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
    nvcc.check(text_of("prelude.cuh") + kernels, target.arch, folder)
    done = subprocess.run(
        [str(shutil.which("cuobjdump", path=path)), what, str(folder / "network.cubin")],
        capture_output=True, text=True, check=True, env={"PATH": path},
    )  # fmt: skip
    return done.stdout


def test_every_target_with_a_device_is_here() -> None:
    known = [n for n in targets.names() if targets.load(n).arch]
    assert sorted(known) == sorted(PROMISED) == sorted(LACKING)


@pytest.mark.parametrize("name", PROMISED)
@pytest.mark.parametrize("kind", WORKLOADS)
def test_instructions(name: str, kind: str, tmp_path: Path) -> None:
    target = targets.load(name)
    text = machine_code(by_estimate(WORKLOADS[kind], target.features), target, tmp_path)
    wanted = PROMISED[name].get(kind, PROMISED[name]["float"])
    assert [word for word in wanted if word not in text] == []
    assert [word for word in LACKING[name] if re.search(rf"\b{word}", text)] == []


@pytest.mark.parametrize("name", PROMISED)
@pytest.mark.parametrize("beside", [False, True])
def test_products_of_two_activations(name: str, beside: bool, tmp_path: Path) -> None:
    """Attention's, of either layout, with sums that zero points need."""
    target, view = targets.load(name), Strided.dense("uint8", (6, 197, 64))
    right = Strided.dense("uint8", (6, 64, 197)) if beside else view.transposed((0, 2, 1))
    rest = (Strided.dense("int32", (197,)), Strided.dense("float32", (1,)))
    out, op = Strided.dense("uint8", (6, 197, 197)), integer.QMatMul(120, 119)
    kernel = device_product(op, (view, right, *rest), out, target.features)
    text = machine_code(kernel, target, tmp_path)
    assert [word for word in PROMISED[name]["conv"] if word not in text] == []
    assert [word for word in LACKING[name] if re.search(rf"\b{word}", text)] == []


@pytest.mark.parametrize("name", ["cuda", "cuda-sm75"])
def test_no_multiplication_is_joined_with_an_addition(name: str, tmp_path: Path) -> None:
    """Requantization is a product that is rounded; a fused one would round once."""
    target = targets.load(name)
    text = machine_code(by_estimate(WORKLOADS["conv"], target.features), target, tmp_path)
    assert "FMUL" in text
    assert "FFMA" not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cuda", "cuda-sm75"])
def test_no_tile_of_a_product_spills(name: str, tmp_path: Path) -> None:
    target, texts = targets.load(name), []
    left, op = Strided.dense("uint8", (4, 130, 600)), integer.QMatMul(120, 119)
    rest = (Strided.dense("int32", (70,)), Strided.dense("float32", (1,)))
    out = Strided.dense("uint8", (4, 130, 70))
    below = Strided.dense("uint8", (4, 70, 600)).transposed((0, 2, 1))
    for right in (below, Strided.dense("uint8", (4, 600, 70))):
        ins = (left, right, *rest)
        for tile in tiles_of(matrices_of(op, ins, out), target.features):
            kernel, number = DeviceProduct(op, ins, (out,), tile), len(texts)
            translate = Translate(kernel, f"k{number}_kernel", target.tvm(), (64,) * 8)
            texts.append(translate().text)
    usage = disassembled("--dump-resource-usage", "\n".join(texts), target, tmp_path)
    stacks = dict(re.findall(r"Function (\w+):\s+REG:\d+ STACK:(\d+)", usage))
    assert len(stacks) == len(texts) > 5
    assert {n: size for n, size in stacks.items() if size != "0"} == {}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "template"), [("cuda", "imma"), ("cuda-sm75", "dp4a")])
def test_no_candidate_spills(name: str, template: str, tmp_path: Path) -> None:
    """Of the template that a target is for.  (dp4a of 2 pixels spills two registers on sm_80.)"""
    target = targets.load(name)
    found = [k for k in candidates(WORKLOADS["conv"], target.features) if k.name == template]
    texts = [
        Translate(kernel, f"k{i}_kernel", target.tvm(), (64,) * 8)().text
        for i, kernel in enumerate(found)
    ]
    usage = disassembled("--dump-resource-usage", "\n".join(texts), target, tmp_path)
    stacks = dict(re.findall(r"Function (\w+):\s+REG:\d+ STACK:(\d+)", usage))
    assert len(stacks) == len(found) > 10
    assert {n: size for n, size in stacks.items() if size != "0"} == {}
