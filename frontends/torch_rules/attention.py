"""Import rule for attention."""

import math

import numpy as np

from ...ir.graph import Value
from ...ir.ops.elementwise import Add, Mul, Where
from ...ir.ops.index import Gather
from ...ir.ops.nn import MatMul
from ...ir.ops.norm import Softmax
from ..onnx_site import Unsupported
from ..torch_site import Site
from .shapes import swapped


def scaled_dot_product_attention(site: Site) -> list[Value]:
    """`MatMul`, `Mul` by the scale, mask, `Softmax`, `MatMul`; shared keys are repeated."""
    q, k, v = (site.value(n) for n in ("query", "key", "value"))
    if site.number("dropout_p"):
        raise Unsupported("dropout; call module.eval() before the export")
    if site.flag("enable_gqa"):
        k, v = (_repeated(site, q, x) for x in (k, v))
    width = q.type.shape[-1]
    if not isinstance(width, int):
        raise Unsupported(f"the width of a head {width!r} is not known")
    scale = site.number("scale") if site.has("scale") else 1 / math.sqrt(width)
    scores = site.emit(MatMul(), q, swapped(site, k))
    scores = site.emit(Mul(), scores, site.constant(np.asarray(scale, site.dtype)))
    scores = _masked(site, scores, site.optional("attn_mask"), site.flag("is_causal"))
    return site.results(MatMul(), site.emit(Softmax(-1), scores), v)


def _repeated(site: Site, q: Value, x: Value) -> Value:
    """``x`` with its heads repeated, each next to itself, to the number of query heads."""
    heads, own = q.type.static[-3], x.type.static[-3]
    if heads == own:
        return x
    which = site.constant(np.repeat(np.arange(own, dtype=np.int64), heads // own))
    return site.emit(Gather(x.type.rank - 3), x, which)


def _masked(site: Site, scores: Value, mask: Value | None, causal: bool) -> Value:
    never = site.constant(np.asarray(-np.inf, site.dtype))
    if causal:
        rows, columns = scores.type.shape[-2:]
        if not isinstance(rows, int) or not isinstance(columns, int):
            raise Unsupported("is_causal with a length that is not known; pass a mask")
        mask = site.constant(np.tri(rows, columns, dtype=np.bool_))
    if mask is None:
        return scores
    if mask.type.dtype == "bool":
        return site.emit(Where(), mask, scores, never)
    return site.emit(Add(), scores, site.cast(mask, site.dtype))
