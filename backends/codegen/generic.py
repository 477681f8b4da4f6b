"""Kernels for everything that has no template: one mechanism from an IR op to TIR.

A :class:`Generic` names an op and the layouts of its operands and results.  A literal table says
which emitter writes its loops; an op that is not in the table cannot be compiled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...ir.errors import BackendError
from ...ir.ops.base import Op
from . import (
    attention,
    hadamard,
    picking,
    pointwise,
    products,
    reductions,
    rowwise,
    scan,
    windows,
)
from .affine import affine, dequantize_accumulator
from .dynamic_quantize import emit_dynamic_quantize
from .float_pointwise import formula_of
from .layout import Strided
from .loops import Frame, build
from .pointwise import Formula, emit_pointwise
from .program import Emitted

Views = tuple[Strided, ...]
Emitter = Callable[[Any, Frame, Views, Views], int]

_FORMULAS: dict[str, Callable[[Any], Formula]] = {
    "Affine": affine,
    "Copy": pointwise.copy,
    "Quantize": pointwise.quantize,
    "Dequantize": pointwise.dequantize,
    "DequantizeAccumulator": dequantize_accumulator,
    "QSum": pointwise.qsum,
    "QMul": pointwise.qmul,
    "QTable": pointwise.qtable,
}
"""Elementwise integer ops, and the boundary between codes and reals."""

_WHOLE = {"QTable": 1}
"""Ops whose operands from this one on are arrays that are looked up, not read elementwise."""

_EMITTERS: dict[str, Emitter] = {
    "Pick": picking.emit_pick,
    "Interpolate": picking.emit_interpolate,
    "Gather": picking.emit_gather,
    "GatherElements": picking.emit_gather_elements,
    "GatherND": picking.emit_gather_nd,
    "TensorScatter": picking.emit_tensor_scatter,
    "CachedAttention": attention.emit_attention,
    "QPad": picking.emit_qpad,
    "QResize": picking.emit_qresize,
    "QAveragePool": windows.emit_qaverage_pool,
    "MaxPool": windows.emit_max_pool,
    "AveragePool": windows.emit_average_pool,
    "GlobalAveragePool": windows.emit_global,
    "GlobalMaxPool": windows.emit_global,
    "QSoftmax": rowwise.emit_qsoftmax,
    "Softmax": rowwise.emit_softmax,
    "LogSoftmax": rowwise.emit_softmax,
    "LayerNormalization": rowwise.emit_normalise,
    "RMSNormalization": rowwise.emit_normalise,
    "InstanceNormalization": rowwise.emit_normalise,
    "GroupNormalization": rowwise.emit_normalise,
    "DynamicQuantize": emit_dynamic_quantize,
    "ArgMax": rowwise.emit_arg,
    "ArgMin": rowwise.emit_arg,
    "QMatMul": products.emit_qmatmul,
    "MatMul": products.emit_matmul,
    "Gemm": products.emit_gemm,
    "BlockedScan": scan.emit_scan,
    "Butterfly": hadamard.emit_butterfly,
    **dict.fromkeys(reductions.NAMES, reductions.emit_reduce),
}


@dataclass(frozen=True)
class Generic:
    """A kernel from an op and the layouts of its (present) operands and its results.

    ``fine``: for a machine of many threads, which computes an element (or a row) in each.
    ``joined``: pixels of three bytes are joined before they are stored (``pixels``).
    """

    op: Op
    ins: Views
    outs: Views
    fine: bool = False
    joined: bool = False

    @property
    def label(self) -> str:
        """The op's name."""
        return self.op.name.lower()

    def emit(self, name: str) -> Emitted:
        """The kernel as TIR."""
        return build(name, self.ins, self.outs, self._body, self.fine)

    def _body(self, frame: Frame) -> int:
        if (formula := _formula(self.op)) is not None:
            whole = _WHOLE.get(self.op.name, -1)
            return emit_pointwise(frame, self.ins, self.outs[0], formula, whole, self.joined)
        if (emitter := _EMITTERS.get(self.op.name)) is not None:
            return emitter(self.op, frame, self.ins, self.outs)
        raise BackendError(f"op {self.op.name} cannot be compiled")


def supported(op: Op) -> bool:
    """Whether there is a generic kernel for ``op``."""
    return op.name in _EMITTERS or _formula(op) is not None


def _formula(op: Op) -> Formula | None:
    make = _FORMULAS.get(op.name)
    return formula_of(op) if make is None else make(op)
