"""Which rule lowers which op: the literal table.  What is not here goes to a generic kernel."""

from . import (
    lower_affine,
    lower_floats,
    lower_picks,
    lower_products,
    lower_scan,
    lower_states,
    lower_views,
)
from .lower import Rule

RULES: dict[str, Rule] = {
    "QConv": lower_products.lower_conv,
    "QMatMul": lower_products.lower_matmul,
    "Conv": lower_floats.lower_conv,
    "MatMul": lower_floats.lower_matmul,
    "Gemm": lower_floats.lower_gemm,
    "SelectiveScan": lower_scan.lower_scan,
    "BatchNormalization": lower_affine.lower_batchnorm,
    "Quantize": lower_affine.lower_codes,
    "Dequantize": lower_affine.lower_codes,
    "DequantizeAccumulator": lower_affine.lower_dequantize_accumulator,
    "Reshape": lower_views.lower_reshape,
    "Flatten": lower_views.lower_reshape,
    "Squeeze": lower_views.lower_reshape,
    "Unsqueeze": lower_views.lower_reshape,
    "Identity": lower_views.lower_reshape,
    "Transpose": lower_views.lower_transpose,
    "Slice": lower_views.lower_slice,
    "Split": lower_views.lower_split,
    "Expand": lower_views.lower_expand,
    "DepthToSpace": lower_views.lower_depth_to_space,
    "SpaceToDepth": lower_views.lower_space_to_depth,
    "Concat": lower_views.lower_concat,
    "Pad": lower_picks.lower_pad,
    "Tile": lower_picks.lower_tile,
    "Gather": lower_picks.lower_gather,
    "TensorScatter": lower_states.lower_tensor_scatter,
    "CachedAttention": lower_states.lower_cached_attention,
    "Resize": lower_picks.lower_resize,
}
