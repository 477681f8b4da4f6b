"""Weights of few bits take these in the library, and are unpacked before anything runs."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from networks import Net

from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.buffer import Storage
from qc.backends.codegen.build import build
from qc.backends.codegen.constants import Constants
from qc.ir.evaluate import evaluate
from qc.ir.stored import stored_bytes
from qc.ir.text import DATA_FILE, load
from qc.targets import load as load_target

WIDE, FEW = 96, 3


def network(bits: int) -> Net:
    """Two layers with 2 * 82,944 weights; its channels need no padding."""
    net = Net(bits=bits)
    x = net.codes(1, WIDE, 4, 4)
    net.real(net.conv(net.conv(x, WIDE), WIDE))
    return net


@pytest.fixture(scope="module", params=[FEW, 8])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(f"of{request.param}") / "out"
    build(network(request.param).graph, load_target("x86"), path)
    return path


def test_constants_are_packed_once() -> None:
    held, codes = Constants(), np.array([1, -3, 3], np.int8)
    first, again = (held.add("w", codes) for _ in range(2))
    assert first is again
    assert (first.storage, first.size) == (Storage.UNPACKED, 3)
    assert (held.stored, held.room % 64) == (3, 0)
    assert held.add("b", codes.astype(np.int32)).storage is Storage.CONSTANT
    assert Constants(keep=False).add("w", codes).storage is Storage.CONSTANT


def test_files_take_the_width_of_the_codes(built: Path) -> None:
    graph, manifest = load(built), Artifact.load(built).manifest
    bytes_ = sum(stored_bytes(np.asarray(v.data)) for v in graph.constants)
    assert manifest["weight_bytes"] == bytes_
    slack = 6 * 128  # what kernels may read behind each constant
    assert bytes_ <= manifest["constant_bytes"] <= bytes_ + slack
    library = (built / "lib.so").stat().st_size
    assert manifest["constant_bytes"] < library < manifest["constant_bytes"] + 100_000
    assert bytes_ < (built / DATA_FILE).stat().st_size < bytes_ + 3000


def test_the_manifest_says_what_is_unpacked(built: Path) -> None:
    manifest, weights = Artifact.load(built).manifest, 2 * WIDE * WIDE * 9
    few = manifest["weight_bytes"] < weights
    assert (manifest["constant_bytes"] < weights) == few
    assert (manifest["unpacked_bytes"] >= weights) == few


def test_the_first_runs_of_many_threads(built: Path) -> None:
    graph = load(built)
    feed = network(8).feed()
    want = evaluate(graph, feed)
    artifact = Artifact.load(built)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: artifact.run(feed), range(8)):
            for name, array in want.items():
                np.testing.assert_array_equal(found[name], array)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_c_program(built: Path, tmp_path: Path) -> None:
    """The program of docs/devices.md: linked with the library, no runtime of TVM."""
    graph, feed = load(built), network(8).feed()
    (name, image), (want,) = next(iter(feed.items())), evaluate(graph, feed).values()
    room = Artifact.load(built).manifest["workspace_bytes"]
    (tmp_path / "main.c").write_text(f"""
        #include <stdio.h>
        #include <stdlib.h>
        extern void qc_run(const float *image, float *out, void *workspace);
        int main(void) {{
          float *image = calloc({image.size}, 4), *out = calloc({want.size}, 4);
          void *workspace = aligned_alloc(64, {room});
          if (fread(image, 4, {image.size}, stdin) != {image.size}) return 1;
          qc_run(image, out, workspace);
          return fwrite(out, 4, {want.size}, stdout) != {want.size};
        }}""")
    library = str(built / "lib.so")
    flags = ["-Wl,--allow-shlib-undefined", f"-Wl,-rpath,{built}", "-Wl,-z,lazy"]
    subprocess.run(["cc", "main.c", library, *flags], cwd=tmp_path, check=True)
    done = subprocess.run(
        [tmp_path / "a.out"], input=image.tobytes(), capture_output=True, check=True
    )
    np.testing.assert_array_equal(
        np.frombuffer(done.stdout, np.float32), want.ravel(), err_msg=name
    )
