"""Import rules for convolutions, products and pooling: padding made explicit."""

from collections.abc import Sequence
from dataclasses import replace

from ...ir.graph import Value
from ...ir.ops.elementwise import Add, Mul
from ...ir.ops.nn import Conv, ConvTranspose, Gemm
from ...ir.ops.pool import AveragePool, LpPool, Pool
from ...ir.ops.reduce import ReduceL1, ReduceL2
from ..onnx_site import Site, Unsupported


def padding(
    site: Site, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """Explicit pads for ``auto_pad``, ``pads`` or neither."""
    n, mode = len(kernel), site.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return site.ints("pads") or (0,) * 2 * n
    if mode == "VALID":
        return (0,) * 2 * n
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise site.error(f"auto_pad {mode!r} does not exist")
    begins, ends = [], []
    for size, k, s, d in zip(site.input(0).type.shape[2:], kernel, strides, dilations, strict=True):
        reach = d * (k - 1) + 1
        if isinstance(size, int):
            total = max((-(-size // s) - 1) * s + reach - size, 0)
        elif s == 1:
            total = reach - 1
        else:
            raise Unsupported(f"auto_pad of dimension {size!r} needs its size; give --input-shape")
        small = total // 2
        begins.append(small if mode == "SAME_UPPER" else total - small)
        ends.append(total - begins[-1])
    return (*begins, *ends)


def conv(site: Site) -> list[Value]:
    """Conv."""
    kernel = site.input(1).type.static[2:]
    ones = (1,) * len(kernel)
    strides, dilations = site.ints("strides") or ones, site.ints("dilations") or ones
    op = Conv(
        strides, padding(site, kernel, strides, dilations), dilations, site.integer("group", 1)
    )
    return site.results(op, *site.inputs)


def conv_transpose(site: Site) -> list[Value]:
    """ConvTranspose; ``output_shape`` and ``auto_pad`` become pads."""
    kernel, space = site.input(1).type.static[2:], site.input(0).type.shape[2:]
    n = len(kernel)
    ones = (1,) * n
    strides, dilations = site.ints("strides") or ones, site.ints("dilations") or ones
    extra = list(site.ints("output_padding") or (0,) * n)
    wanted, mode = site.ints("output_shape"), site.text("auto_pad", "NOTSET")
    pads = site.ints("pads") or (0,) * 2 * n
    if wanted is not None or mode.startswith("SAME"):
        begins, ends = [], []
        for i, size in enumerate(space):
            if not isinstance(size, int):
                raise Unsupported(f"its output depends on dimension {size!r}; give --input-shape")
            full = strides[i] * (size - 1) + extra[i] + dilations[i] * (kernel[i] - 1) + 1
            total = full - (wanted[i - n] if wanted is not None else size * strides[i])
            if total < 0:
                extra[i], total = extra[i] - total, 0
            begins.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
            ends.append(total - begins[-1])
        pads = (*begins, *ends)
    elif mode == "VALID":
        pads = (0,) * 2 * n
    op = ConvTranspose(strides, pads, dilations, tuple(extra), site.integer("group", 1))
    return site.results(op, *site.inputs)


def gemm(site: Site) -> list[Value]:
    """Gemm."""
    op = Gemm(
        site.number("alpha", 1), site.number("beta", 1), site.flag("transA"), site.flag("transB")
    )
    return site.results(op, *site.inputs)


def pooled(site: Site, op: type[Pool]) -> Pool:
    """A pooling op with explicit padding."""
    kernel = site.ints("kernel_shape")
    if kernel is None:
        raise site.error("attribute kernel_shape is missing")
    ones = (1,) * len(kernel)
    strides, dilations = site.ints("strides") or ones, site.ints("dilations") or ones
    pads = padding(site, kernel, strides, dilations)
    return op(kernel, strides, pads, dilations, site.flag("ceil_mode"))


def average_pool(site: Site) -> list[Value]:
    """AveragePool."""
    op = pooled(site, AveragePool)
    assert isinstance(op, AveragePool)
    return site.results(
        replace(op, count_include_pad=site.flag("count_include_pad")), site.input(0)
    )


def lp_pool(site: Site) -> list[Value]:
    """LpPool."""
    op = pooled(site, LpPool)
    assert isinstance(op, LpPool)
    return site.results(replace(op, p=site.integer("p", 2)), site.input(0))


def global_lp_pool(site: Site) -> list[Value]:
    """GlobalLpPool: a norm over all spatial axes."""
    axes = tuple(range(2, site.input(0).type.rank))
    p = site.integer("p", 2)
    if p not in (1, 2):
        raise Unsupported(f"p = {p} is not supported")
    return site.results(ReduceL2(axes) if p == 2 else ReduceL1(axes), site.input(0))


def scaled_sum(site: Site, x: Value, scale: Value, bias: Value | None) -> list[Value]:
    """``x * scale + bias``."""
    if bias is None:
        return site.results(Mul(), x, scale)
    return site.results(Add(), site.emit(Mul(), x, scale), bias)
