"""A small network with its data, for tests of the whole path."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_model(path: Path, batch: int | str = 1, channels: int = 0) -> Path:
    """Conv, Relu, global average pool, Gemm: four classes of ``[batch, 2, 8, 8]`` images.

    ``channels``: of a second convolution, if there is one.
    """
    rng = np.random.default_rng(1)
    arrays = {
        "w": rng.standard_normal((16, 2, 3, 3)) / 4, "b": rng.standard_normal(16) / 4,
        "fc": rng.standard_normal((channels or 16, 4)), "bias": np.zeros(4),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["d" if channels else "r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "fc", "bias"], ["y"], name="fc"),
    ]
    if channels:
        arrays["second"] = rng.standard_normal((channels, 16, 3, 3)) / 12
        second = helper.make_node("Conv", ["r", "second"], ["d"], name="second", pads=[1] * 4)
        nodes.insert(2, second)
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def write_data(path: Path, count: int, model: Path | None = None) -> Path:
    """``count`` random samples; labels are what ``model`` says."""
    x = np.random.default_rng(2).standard_normal((count, 2, 8, 8)).astype(np.float32)
    arrays = {"x": x}
    if model is not None:
        import onnxruntime as ort

        session = ort.InferenceSession(str(model))
        outputs = [session.run(None, {"x": x[i : i + 1]})[0] for i in range(count)]
        arrays["labels"] = np.concatenate(outputs).argmax(1)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def write_place(folder: Path, calibration: int, evaluation: int, channels: int = 0) -> Path:
    """The network as ``m.onnx`` with so many samples in ``calib.npz`` and ``eval.npz``."""
    write_model(folder / "m.onnx", channels=channels)
    write_data(folder / "calib.npz", calibration)
    write_data(folder / "eval.npz", evaluation, folder / "m.onnx")
    return folder
