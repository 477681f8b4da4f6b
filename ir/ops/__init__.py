"""The ops, and the one table of their names."""

from .activation import (
    Celu,
    Elu,
    Erf,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    Relu,
    Selu,
    Sigmoid,
    Silu,
    Softplus,
    Softsign,
    Tanh,
    ThresholdedRelu,
)  # fmt: skip
from .attention import CachedAttention
from .base import Op
from .blocks import DepthToSpace, SpaceToDepth
from .control import If, Loop, Scan
from .elementwise import (
    Abs,
    Add,
    Cast,
    Ceil,
    Clip,
    Cos,
    Div,
    Exp,
    Floor,
    Identity,
    Log,
    Max,
    Mean,
    Min,
    Mod,
    Mul,
    Neg,
    Pow,
    PRelu,
    Reciprocal,
    Round,
    Sign,
    Sin,
    Sqrt,
    Sub,
    Sum,
    Where,
)  # fmt: skip
from .encoding import Decode, Encode
from .hadamard import Hadamard
from .index import (
    Gather,
    GatherElements,
    GatherND,
    NonZero,
    OneHot,
    Pad,
    ScatterElements,
    ScatterND,
    Slice,
    Trilu,
)  # fmt: skip
from .integer import (
    DequantizeAccumulator,
    QAveragePool,
    QConv,
    QMatMul,
    QMul,
    QPad,
    QSoftmax,
    QSum,
    QTable,
)  # fmt: skip
from .integer_products import ConvInteger, MatMulInteger
from .integer_resize import QResize
from .late import Late
from .linear import DequantizeLinear, QuantizeLinear
from .logic import (
    Acos,
    Acosh,
    And,
    Asin,
    Asinh,
    Atan,
    Atanh,
    BitShift,
    BitwiseAnd,
    BitwiseNot,
    BitwiseOr,
    BitwiseXor,
    Cosh,
    Equal,
    Greater,
    GreaterOrEqual,
    IsInf,
    IsNaN,
    Less,
    LessOrEqual,
    Not,
    Or,
    Sinh,
    Tan,
    Xor,
)  # fmt: skip
from .narrow import BitCast
from .nn import Conv, ConvTranspose, Gemm, MatMul
from .norm import (
    LRN,
    BatchNormalization,
    GroupNormalization,
    Hardmax,
    InstanceNormalization,
    LayerNormalization,
    LogSoftmax,
    LpNormalization,
    RMSNormalization,
    Softmax,
)  # fmt: skip
from .opaque import Opaque
from .pool import (
    AveragePool,
    GlobalAveragePool,
    GlobalMaxPool,
    LpPool,
    MaxPool,
)  # fmt: skip
from .quantize import Dequantize, DynamicDequantize, DynamicQuantize, Quantize
from .recurrent import GRU, LSTM, RNN
from .reduce import (
    ArgMax,
    ArgMin,
    CumProd,
    CumSum,
    Det,
    Einsum,
    ReduceL1,
    ReduceL2,
    ReduceLogSum,
    ReduceLogSumExp,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    ReduceSumSquare,
    TopK,
)  # fmt: skip
from .resize import Resize
from .resize_crop import CroppedResize
from .sample import DeformConv, GridSample, RoiAlign
from .select import Compress, EyeLike, NonMaxSuppression, ReverseSequence, TensorScatter, Unique
from .selective_scan import SelectiveScan
from .shape import (
    Concat,
    ConstantOfShape,
    Expand,
    Flatten,
    Range,
    Reshape,
    Shape,
    Size,
    Split,
    Squeeze,
    Tile,
    Transpose,
    Unsqueeze,
)  # fmt: skip
from .spectral import DFT, STFT, MelWeightMatrix
from .strings import RegexFullMatch, StringConcat, StringNormalizer, StringSplit
from .windows import Col2Im, MaxPoolIndices, MaxUnpool

OPS: dict[str, type[Op]] = {
    op.__name__: op
    for op in (
        Abs, Acos, Acosh, Add, And, ArgMax, ArgMin, Asin, Asinh, Atan, Atanh, AveragePool,
        BatchNormalization, BitCast, BitShift, BitwiseAnd, BitwiseNot, BitwiseOr, BitwiseXor,
        CachedAttention, Cast, Ceil, Celu, Clip, Col2Im, Compress, Concat, ConstantOfShape, Conv,
        ConvInteger, ConvTranspose, Cos, Cosh, CroppedResize, CumProd, CumSum, DFT, Decode,
        DeformConv, DepthToSpace, Dequantize, DequantizeAccumulator, DequantizeLinear, Det, Div,
        DynamicDequantize, DynamicQuantize, Einsum, Elu, Encode, Equal, Erf, Exp, Expand, EyeLike,
        Flatten, Floor, GRU, Gather, GatherElements, GatherND, Gelu, Gemm, GlobalAveragePool,
        GlobalMaxPool, Greater, GreaterOrEqual, GridSample, GroupNormalization, Hadamard,
        HardSigmoid, HardSwish, Hardmax, Identity, If, InstanceNormalization, IsInf, IsNaN, LRN,
        LSTM, Late, LayerNormalization, LeakyRelu, Less, LessOrEqual, Log, LogSoftmax, Loop,
        LpNormalization, LpPool, MatMul, MatMulInteger, Max, MaxPool, MaxPoolIndices, MaxUnpool,
        Mean, MelWeightMatrix, Min, Mish, Mod, Mul, Neg, NonMaxSuppression, NonZero, Not, OneHot,
        Opaque, Or, PRelu, Pad, Pow, QAveragePool, QConv, QMatMul, QMul, QPad, QResize, QSoftmax,
        QSum, QTable, Quantize, QuantizeLinear, RMSNormalization, RNN, Range, Reciprocal, ReduceL1,
        ReduceL2, ReduceLogSum, ReduceLogSumExp, ReduceMax, ReduceMean, ReduceMin, ReduceProd,
        ReduceSum, ReduceSumSquare, RegexFullMatch, Relu, Reshape, Resize, ReverseSequence,
        RoiAlign, Round, STFT, Scan, ScatterElements, ScatterND, SelectiveScan, Selu, Shape,
        Sigmoid, Sign, Silu, Sin, Sinh, Size, Slice, Softmax, Softplus, Softsign, SpaceToDepth,
        Split, Sqrt, Squeeze, StringConcat, StringNormalizer, StringSplit, Sub, Sum, Tan, Tanh,
        TensorScatter, ThresholdedRelu, Tile, TopK, Transpose, Trilu, Unique, Unsqueeze, Where, Xor,
    )
}  # fmt: skip

__all__ = [  # noqa: RUF022
    "OPS", "Op", "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan",
    "Atanh", "AveragePool", "BatchNormalization", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot",
    "BitwiseOr", "BitwiseXor", "CachedAttention", "Cast", "Ceil", "Celu", "Clip", "Col2Im",
    "Compress", "Concat", "ConstantOfShape", "Conv", "ConvInteger", "ConvTranspose", "Cos", "Cosh",
    "CroppedResize", "CumProd", "CumSum", "DFT", "Decode", "DeformConv", "DepthToSpace",
    "Dequantize", "DequantizeAccumulator", "DequantizeLinear", "Det", "Div", "DynamicDequantize",
    "DynamicQuantize", "Einsum", "Elu", "Encode", "Equal", "Erf", "Exp", "Expand", "EyeLike",
    "Flatten", "Floor", "GRU", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample",
    "GroupNormalization", "Hadamard", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "If",
    "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LSTM", "Late", "LayerNormalization",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "Loop", "LpNormalization", "LpPool",
    "MatMul", "MatMulInteger", "Max", "MaxPool", "MaxPoolIndices", "MaxUnpool", "Mean",
    "MelWeightMatrix", "Min", "Mish", "Mod", "Mul", "Neg", "NonMaxSuppression", "NonZero", "Not",
    "OneHot", "Opaque", "Or", "PRelu", "Pad", "Pow", "QAveragePool", "QConv", "QMatMul", "QMul",
    "QPad", "QResize", "QSoftmax", "QSum", "QTable", "Quantize", "QuantizeLinear",
    "RMSNormalization", "RNN", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "RegexFullMatch", "Relu", "Reshape", "Resize", "ReverseSequence", "RoiAlign",
    "Round", "STFT", "Scan", "ScatterElements", "ScatterND", "SelectiveScan", "Selu", "Shape",
    "Sigmoid", "Sign", "Silu", "Sin", "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign",
    "SpaceToDepth", "Split", "Sqrt", "Squeeze", "StringConcat", "StringNormalizer", "StringSplit",
    "Sub", "Sum", "Tan", "Tanh", "TensorScatter", "ThresholdedRelu", "Tile", "TopK", "Transpose",
    "Trilu", "Unique", "Unsqueeze", "Where", "Xor",
]  # fmt: skip
