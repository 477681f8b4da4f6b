"""Single operators as ONNX files: integer ones with codes in and out, and their float twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

Array = NDArray[Any]
X, Y = "x", "y"
INPUT_SCALE, WEIGHT_SCALE, ZERO = np.float32(0.02), np.float32(0.01), np.uint8(128)
CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class Model:
    """A file and its input; ``channels_last``: whether its output is ``[N, H, W, C]``."""

    proto: ModelProto
    feed: dict[str, Array]
    channels_last: bool = True


@dataclass(frozen=True)
class Product:
    """``[rows, inner] x [inner, columns]`` with constant weights."""

    rows: int
    inner: int
    columns: int

    @property
    def name(self) -> str:
        """As in the table."""
        kind = "gemv" if self.rows == 1 else "gemm"
        return f"{kind} {self.rows}x{self.inner}x{self.columns}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.rows * self.inner * self.columns

    def ours(self, seed: int = 0) -> Model:
        """The file that qc compiles."""
        return self._integer(seed, "QGemm", True)

    def rivals(self, seed: int = 0) -> dict[str, Model]:
        """The integer forms for onnxruntime by name, with weights as int8 and as uint8."""
        forms = {}
        for kind in ("QGemm", "QLinearMatMul"):
            for signed in (True, False):
                name = f"{kind} u8{'s8' if signed else 'u8'}"
                forms[name] = self._integer(seed, kind, signed)
        return forms

    def real(self, seed: int = 0) -> Model:
        """The same in float32."""
        rng = np.random.default_rng(seed)
        w = rng.standard_normal((self.inner, self.columns)).astype(np.float32)
        node = helper.make_node("Gemm", [X, "w", "b"], [Y])
        constants = {"w": w, "b": np.zeros(self.columns, np.float32)}
        feed = rng.standard_normal((self.rows, self.inner)).astype(np.float32)
        return _model([node], feed, (self.rows, self.columns), constants)

    def _integer(self, seed: int, kind: str, signed: bool) -> Model:
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 256, (self.rows, self.inner)).astype(np.uint8)
        w = _weights(rng, (self.inner, self.columns))
        constants = _scales(w, self.columns, self.inner, signed)
        inputs = [X, "x_scale", "x_zero", "w", "w_scale", "w_zero"]
        if kind == "QGemm":  # QLinearMatMul has no bias; zeros keep the two equal
            constants["b"] = np.zeros(self.columns, np.int32)
            inputs.append("b")
        domain = CONTRIB if kind == "QGemm" else ""
        node = helper.make_node(kind, [*inputs, "y_scale", "y_zero"], [Y], domain=domain)
        return _model([node], x, (self.rows, self.columns), constants)


@dataclass(frozen=True)
class Convolution:
    """A convolution of a square image, padded so that the size stays."""

    inputs: int
    outputs: int
    size: int
    kernel: int
    group: int = 1

    @property
    def name(self) -> str:
        """As in the table."""
        kind, channels = "conv", f"{self.inputs}-{self.outputs}"
        if self.group > 1:
            kind, channels = "depthwise", f"{self.outputs}"
        return f"{kind} {self.kernel}x{self.kernel} {channels} {self.size}x{self.size}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.size**2 * self.outputs * self._fan_in

    @property
    def _fan_in(self) -> int:
        return self.inputs // self.group * self.kernel**2

    def ours(self, seed: int = 0) -> Model:
        """The file that qc compiles: channels last at the boundary, as between layers."""
        turned = [
            helper.make_node("Transpose", [X], ["x_first"], perm=[0, 3, 1, 2]),
            self._node("x_first", "y_first"),
            helper.make_node("Transpose", ["y_first"], [Y], perm=[0, 2, 3, 1]),
        ]
        return self._integer(seed, turned, True, True)

    def rivals(self, seed: int = 0) -> dict[str, Model]:
        """The integer forms for onnxruntime by name, channels first and last."""
        forms = {}
        for last in (False, True):
            more = {"domain": CONTRIB, "channels_last": 1} if last else {}
            for signed in (True, False):
                name = f"{'NHWC' if last else 'NCHW'} u8{'s8' if signed else 'u8'}"
                forms[name] = self._integer(seed, [self._node(X, Y, **more)], signed, last)
        return forms

    def real(self, seed: int = 0) -> Model:
        """The same in float32; onnxruntime arranges it as it likes."""
        rng = np.random.default_rng(seed)
        shape = (self.outputs, self.inputs // self.group, self.kernel, self.kernel)
        constants = {"w": rng.standard_normal(shape).astype(np.float32)}
        constants["b"] = np.zeros(self.outputs, np.float32)
        node = helper.make_node(
            "Conv", [X, "w", "b"], [Y], pads=[self.kernel // 2] * 4, group=self.group
        )
        feed = rng.standard_normal((1, self.inputs, self.size, self.size)).astype(np.float32)
        return _model([node], feed, (1, self.outputs, self.size, self.size), constants)

    def _node(self, x: str, y: str, **more: object) -> Any:
        inputs = [x, "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "b"]
        pads = [self.kernel // 2] * 4
        return helper.make_node("QLinearConv", inputs, [y], pads=pads, group=self.group, **more)

    def _integer(self, seed: int, nodes: Sequence[Any], signed: bool, last: bool) -> Model:
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 256, (1, self.size, self.size, self.inputs)).astype(np.uint8)
        w = _weights(rng, (self.outputs, self.inputs // self.group, self.kernel, self.kernel))
        constants = _scales(w, self.outputs, self._fan_in, signed)
        constants["b"] = rng.integers(-1000, 1000, self.outputs).astype(np.int32)
        shape = (1, self.size, self.size, self.outputs)
        if not last:
            x, shape = _first(x), (1, self.outputs, self.size, self.size)
        return _model(nodes, x, shape, constants, last)


def channels_last(model: Model, y: Array) -> Array:
    """The output of a file in the order of ours."""
    return y if model.channels_last else y.transpose(0, 2, 3, 1)


def _first(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Weights as quantizers leave them: normal, the greatest of a few thousand at 127."""
    return np.clip(np.rint(rng.normal(0, 32, shape)), -127, 127).astype(np.int8)


def _scales(w: Array, channels: int, fan_in: int, signed: bool) -> dict[str, Array]:
    """Weights, per channel, and scales for which the output's codes fill their range."""
    spread = INPUT_SCALE * WEIGHT_SCALE * 74 * 32 * np.sqrt(fan_in)
    zero = np.int8(0) if signed else ZERO
    stored = w if signed else (w.astype(np.int16) + int(ZERO)).astype(np.uint8)
    return {
        "x_scale": np.asarray(INPUT_SCALE),
        "x_zero": np.asarray(ZERO),
        "w": stored,
        "w_scale": np.full(channels, WEIGHT_SCALE),
        "w_zero": np.full(channels, zero),
        "y_scale": np.asarray(np.float32(spread * 6 / 255)),
        "y_zero": np.asarray(ZERO),
    }


def _model(
    nodes: Sequence[Any],
    x: Array,
    shape: Sequence[int],
    constants: Mapping[str, Array],
    channels_last: bool = True,
) -> Model:
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        nodes,
        "operator",
        [helper.make_tensor_value_info(X, kind, x.shape)],
        [helper.make_tensor_value_info(Y, kind, shape)],
        [numpy_helper.from_array(a, name) for name, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return Model(proto, {X: x}, channels_last)
