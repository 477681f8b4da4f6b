"""Kernels for CUDA as trials: all kinds of layers are right on a device of software."""

from dataclasses import replace
from pathlib import Path

import pretend_cuda
import pytest

pytest.importorskip("tvm")

from qc.backends.codegen.cuda import nvcc
from qc.backends.codegen.kernels import (
    ConvWorkload,
    DepthwiseWorkload,
    Epilogue,
    FloatEpilogue,
    Residual,
    View,
)
from qc.backends.codegen.template import by_estimate
from qc.backends.codegen.tuning.candidate import job_of, trial_of
from qc.backends.codegen.tuning.device_trial import DeviceTrial
from qc.backends.codegen.tuning.measurer import Local, Timing
from qc.backends.codegen.tuning.trial import Trial
from qc.ir.errors import BackendError
from qc.targets import cuda_device, load

CUDA = load("cuda")
THREE = ((3, 3), (1, 1), (1, 1))


def wide(height: int, width: int, dtype: str = "uint8") -> View:
    """16 channels with gaps between pixels and rows."""
    return View(height, width, 16, 24 * (width + 2), 24, dtype)


SMALL = wide(4, 5)
WORKLOADS = {
    "code": ConvWorkload(wide(6, 7), SMALL, *THREE, Epilogue("uint8", 100, 3, 250)),
    "sum": ConvWorkload(
        wide(6, 7), SMALL, *THREE, Epilogue("uint8", 9, 0, 255, Residual(150, 8, -9000)), SMALL
    ),
    "table": ConvWorkload(wide(6, 7), SMALL, *THREE, Epilogue("uint8", 128, table=True)),
    "int32": ConvWorkload(wide(6, 7), wide(4, 5, "int32"), *THREE, Epilogue("int32")),
    "float32": ConvWorkload(
        wide(9, 11), wide(4, 5, "float32"), (3, 3), (2, 2), (1, 1), Epilogue("float32")
    ),
    "depthwise": DepthwiseWorkload(wide(6, 7), SMALL, *THREE, Epilogue("uint8", 128)),
    "real": ConvWorkload(
        wide(6, 7, "float32"), wide(4, 5, "float32"), *THREE, FloatEpilogue(0.0, 1.0)
    ),
    "depthwise-real": DepthwiseWorkload(
        wide(6, 7, "float32"), wide(4, 5, "float32"), *THREE, FloatEpilogue()
    ),
}


@pytest.fixture(autouse=True)
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = pretend_cuda.install(tmp_path / "device")
    monkeypatch.setenv("LD_LIBRARY_PATH", environment["LD_LIBRARY_PATH"])
    monkeypatch.setattr(nvcc, "nvcc", lambda: None)


def trial(workload: ConvWorkload, name: str) -> Trial:
    """What is timed of the kernel by estimate."""
    kernel = by_estimate(workload, CUDA.features)
    return trial_of(kernel, job_of(kernel, name, CUDA)(), CUDA)


def measured(trials: dict[str, Trial]) -> dict[str, Timing]:
    return Local(CUDA, hang=20).measure([trials])[0]


def test_every_kind_of_layer() -> None:
    trials = {name: trial(w, f"trial_{i}") for i, (name, w) in enumerate(WORKLOADS.items())}
    found = measured(trials)
    assert {name: t for name, t in found.items() if not isinstance(t, float)} == {}


def test_all_samples_of_a_batch_are_launched_and_compared(tmp_path: Path) -> None:
    batches = {name: replace(w, samples=3) for name, w in WORKLOADS.items()}
    trials = {name: trial(w, f"trial_{i}") for i, (name, w) in enumerate(batches.items())}
    for made in list(trials.values()):
        assert isinstance(made, DeviceTrial)
        assert made.source.samples == 3
        text = made.source.text.replace("blockIdx.y * ", "(blockIdx.y & 1) * ")
        lost = replace(made, source=replace(made.source, text=text))
        trials[made.source.name] = lost  # nobody computes the third one
    found = measured(trials)
    assert {name: t for name, t in found.items() if name in batches and isinstance(t, str)} == {}
    wrong = [str(t).partition(":")[0] for name, t in found.items() if name not in batches]
    assert wrong == ["differs from the integer reference"] * len(batches)


def changed(made: Trial, inside: str) -> DeviceTrial:
    """The same kernel with something at its end."""
    assert isinstance(made, DeviceTrial)
    body, _, _ = made.source.text.rstrip().rpartition("}")
    return replace(made, source=replace(made.source, text=f"{body}{inside}\n}}\n"))


def test_what_is_not_as_expected() -> None:
    """Reals may be off by what another order of sums makes; nothing between pixels changes."""
    once = "if (!blockIdx.x && !threadIdx.x)"
    real, code = trial(WORKLOADS["depthwise-real"], "t0"), trial(WORKLOADS["code"], "t1")
    trials: dict[str, Trial] = {
        "a little": changed(real, f"{once} y_ptr[0] = y_ptr[0] * 1.000001f;"),
        "too much": changed(real, f"{once} y_ptr[0] = y_ptr[0] + 0.001f;"),
        "no number": changed(real, f"{once} y_ptr[0] = CUDART_NAN_F;"),
        "between": changed(code, f"{once} y_ptr[17] = 7;"),
    }
    found = measured(trials)
    assert isinstance(found.pop("a little"), float)
    assert [str(t).partition(":")[0] for t in found.values()] == (
        ["differs from the integer reference"] * 3
    )


@pytest.mark.skipif(cuda_device.compute_capability() > 0, reason="this machine has a CUDA device")
def test_a_lost_device_blames_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH")
    with pytest.raises(BackendError, match="kernels cannot be timed: no CUDA driver: libcuda"):
        measured({"code": trial(WORKLOADS["code"], "t")})
