"""The artifact: feeds, threads, errors, and what is on disk."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from compiled import Compiled
from networks import Net

from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.build import build, check_destination, compile_graph, replacing
from qc.ir.errors import BackendError, DataError, TargetError
from qc.ir.evaluate import evaluate
from qc.ir.ops.opaque import Opaque
from qc.ir.ops.quantize import Quantize
from qc.ir.text import load as load_graph
from qc.ir.types import TensorType
from qc.targets import load

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def small() -> Net:
    """One convolution."""
    net = Net()
    net.real(net.conv(net.codes(1, 3, 6, 6), 16))
    return net


@pytest.fixture
def copy(layers_here: Compiled, tmp_path: Path) -> Path:
    """An artifact that a test may spoil."""
    shutil.copytree(layers_here.path, tmp_path / "copy")
    return tmp_path / "copy"


def edit(path: Path, **changes: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_eight_threads_at_once(each: Compiled) -> None:
    rng = np.random.default_rng(1)
    feeds = [
        {k: rng.normal(size=v.shape).astype(v.dtype) for k, v in each.feed.items()}
        for _ in range(8)
    ]
    want = [each.artifact.run(f) for f in feeds]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for a, b in zip(pool.map(each.artifact.run, feeds), want, strict=True):
                assert all(np.array_equal(a[k], b[k]) for k in b)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_artifact_compiled_again_runs_as_it_is_now(tmp_path: Path, threads: int) -> None:
    """The loader knows libraries by their names: the old code would run, under the new manifest."""
    for outputs in (16, 32):
        net = Net()
        net.real(net.conv(net.codes(1, 3, 6, 6), outputs))
        build(net.graph, load("host"), tmp_path / "net")
        feed = net.feed()
        got = Artifact.load(tmp_path / "net", threads).run(feed)
        for name, want in evaluate(net.graph, feed).items():
            np.testing.assert_array_equal(got[name], want)


def test_two_threads_inside(each: Compiled) -> None:
    before = dict(os.environ)
    got = Artifact.load(each.path, threads=2).run(each.feed)
    assert dict(os.environ) == before, "children of this process compile, and inherit it"
    for name, want in each.artifact.run(each.feed).items():
        np.testing.assert_array_equal(got[name], want, err_msg=name)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
def test_two_threads_use_two_processors(layers_here: Compiled) -> None:
    """A second thread that TVM does not start would leave its processor idle."""
    code = (
        f"import os, sys; sys.path.insert(0, {str(TESTS)!r}); import conftest\n"
        "sys.modules['torch'] = None\n"  # TVM would import it, which takes seconds
        "from qc import Artifact\n"
        f"Artifact.load({str(layers_here.path)!r}, threads=2)\n"
        "print(len(os.listdir('/proc/self/task')), end=' ')\n"
        "import ctypes, tvm_ffi\n"
        "tvm = tvm_ffi.libinfo.load_lib_ctypes('apache-tvm', 'tvm_runtime', 'RTLD_GLOBAL')\n"
        "print(tvm._ZN3tvm7runtime9threading14MaxConcurrencyEv())\n"
    )
    counts = []
    for threads in (1, 2):
        text = code.replace("threads=2", f"threads={threads}")
        environment = {k: v for k, v in os.environ.items() if k != "TVM_NUM_THREADS"}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True)
        counts.append([int(word) for word in done.stdout.split()])
    assert counts[0][0] < counts[1][0]
    assert counts[1][1] >= 2, "with one TVM runs everything on the caller's thread"


def test_bound_call(each: Compiled) -> None:
    call = each.artifact.runner(each.feed)
    call()
    for name, want in each.artifact.run(each.feed).items():
        np.testing.assert_array_equal(call.results[name], want)


def test_the_functions_for_tvm_check_their_tensors(layers_here: Compiled) -> None:
    """Both check alike: one calls the other."""
    import tvm

    manifest = json.loads((layers_here.path / "manifest.json").read_text())
    want = layers_here.artifact.run(layers_here.feed)
    ins = [tvm.runtime.tensor(layers_here.feed[p["name"]]) for p in manifest["inputs"]]
    workspace = tvm.runtime.tensor(np.zeros(max(manifest["workspace_bytes"], 64), np.uint8))
    library = tvm.runtime.load_module(str(layers_here.path / "lib.so"))
    for name, threads in (("main", ()), ("main_parallel", (0,)), ("main_parallel", (2,))):
        outs = [tvm.runtime.tensor(np.zeros(p["shape"], p["dtype"])) for p in manifest["outputs"]]
        library[name](*ins, *outs, workspace, *threads)
        for port, out in zip(manifest["outputs"], outs, strict=True):
            np.testing.assert_array_equal(out.numpy(), want[port["name"]], err_msg=name)
        with pytest.raises(ValueError, match=r"Mismatched p0\.ndim on argument #0"):
            library[name](workspace, *ins[1:], *outs, workspace, *threads)


def test_results_are_fresh_arrays(layers_here: Compiled) -> None:
    first = layers_here.artifact.run(layers_here.feed)
    name = next(iter(first))
    kept = first[name].copy()
    first[name][...] = 0
    np.testing.assert_array_equal(layers_here.artifact.run(layers_here.feed)[name], kept)


def test_feed_need_not_be_contiguous(each: Compiled) -> None:
    feed = {k: np.asfortranarray(v) for k, v in each.feed.items()}
    got, want = each.artifact.run(feed), each.artifact.run(each.feed)
    assert all(np.array_equal(got[k], v) for k, v in want.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("x0"), "'x0' is missing"),
        (lambda f: f.update(x_0=f["x0"]), "no input 'x_0'; did you mean 'x0'"),
        (lambda f: f.update(x0=f["x0"][..., 1:]), r"float32\[1, 3, 17, 18\] given"),
        (lambda f: f.update(x0=f["x0"].astype(np.float64)), "float64"),
        (lambda f: f.update(x0=[1.0]), "a numpy array, not list"),
    ],
)
def test_wrong_feeds(layers_here: Compiled, change: object, message: str) -> None:
    feed = dict(layers_here.feed)
    change(feed)  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        layers_here.artifact.run(feed)


def test_spoiled_library(copy: Path) -> None:
    with (copy / "lib.so").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BackendError, match="does not match the hash"):
        Artifact.load(copy)


def test_missing_features(copy: Path) -> None:
    edit(copy, features=["avx2", "avx1024"])
    with pytest.raises(TargetError, match="lacks avx1024"):
        Artifact.load(copy)


def test_another_machine(copy: Path) -> None:
    edit(copy, target={"name": "arm", "triple": "aarch64-linux-gnu", "cpu": "cortex-a76"})
    with pytest.raises(TargetError, match="built for aarch64-linux-gnu"):
        Artifact.load(copy)


def test_not_an_artifact(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(BackendError, match="is no artifact"):
        Artifact.load(tmp_path / "nothing")
    edit(copy, qc=99)
    with pytest.raises(BackendError, match="not of format"):
        Artifact.load(copy)


def test_the_graph_lies_beside(each: Compiled) -> None:
    graph = load_graph(each.path)
    got = evaluate(graph, each.feed)
    assert all(np.array_equal(got[k], v) for k, v in each.want.items())


def test_manifest_says_what_it_takes(layers_here: Compiled) -> None:
    manifest = layers_here.artifact.manifest
    assert manifest["peak_activation_bytes"] > 0
    assert manifest["weight_bytes"] > 0
    assert "lib.so" in manifest["files"]
    assert manifest["inputs"][0] == {"name": "x0", "dtype": "float32", "shape": [1, 3, 17, 19]}


def test_same_input_same_bytes(small: Net) -> None:
    first, second = (compile_graph(small.graph, load("x86")) for _ in range(2))
    assert first == second


def test_unknown_op_is_named(tmp_path: Path) -> None:
    net = Net()
    op = Opaque("Strange", "com.example", (), (TensorType("float32", (1, 3)),))
    node = net.graph.add(op, [net.floats(1, 3)], names=["y"])
    net.out(node.output)
    with pytest.raises(BackendError, match="cannot be compiled"):
        build(net.graph, load("x86"), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_scale_per_channel_is_refused_by_name(tmp_path: Path) -> None:
    net = Net()
    op = Quantize((0.1, 0.2, 0.3), (0, 0, 0), axis=1)
    net.out(net.graph.add(op, [net.floats(1, 3)], names=["y"]).output)
    with pytest.raises(BackendError, match="Quantize with a scale per index of axis 1"):
        build(net.graph, load("x86"), tmp_path / "out")


def test_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(BackendError, match="no manifest of ours"):
        check_destination(tmp_path)


def test_failure_leaves_the_old_artifact(copy: Path) -> None:

    def interrupted() -> None:
        with replacing(copy) as folder:
            (folder / "half").write_text("written")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (copy / "lib.so").exists()
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_save_replaces_as_a_whole(layers_here: Compiled, copy: Path) -> None:
    (copy / "stale").write_text("old")
    artifact = Artifact.load(layers_here.path)
    artifact.save(copy)
    assert not (copy / "stale").exists()
    assert Artifact.load(copy).manifest == artifact.manifest
    artifact.path = layers_here.path
