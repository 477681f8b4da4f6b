"""Import rules for convolutions, matrix products and pooling."""

from collections.abc import Sequence

import numpy as np

from ...ir.graph import Value
from ...ir.ops.elementwise import Add, Mul
from ...ir.ops.nn import Conv, ConvTranspose, Gemm, MatMul
from ...ir.ops.pool import AveragePool, GlobalAveragePool, GlobalMaxPool, MaxPool
from ...ir.ops.shape import Squeeze, Unsqueeze
from ...ir.types import Array
from ..onnx_site import Unsupported
from ..torch_site import Rule, Site
from .shapes import swapped


def convolution(site: Site) -> list[Value]:
    """`Conv` or `ConvTranspose`; an image without a batch axis is a batch of one."""
    x, w = site.value("input"), site.value("weight")
    n = w.type.rank - 2
    strides, padding, dilations = (_each(site, k, n) for k in ("stride", "padding", "dilation"))
    alone = x.type.rank == n + 1
    batch = site.emit(Unsqueeze((0,)), x) if alone else x
    group, pads = site.integer("groups"), (*padding, *padding)
    op: Conv | ConvTranspose = Conv(strides, pads, dilations, group)
    if site.flag("transposed"):
        extra = _each(site, "output_padding", n)
        op = ConvTranspose(strides, pads, dilations, extra, group)
    operands = [batch, w, *(v for v in [site.optional("bias")] if v is not None)]
    if not alone:
        return site.results(op, *operands)
    return site.results(Squeeze((0,)), site.emit(op, *operands))


def _each(site: Site, name: str, count: int) -> tuple[int, ...]:
    """One number per spatial axis; one alone stands for all."""
    found = site.ints(name)
    return found * count if len(found) == 1 else found


def linear(site: Site) -> list[Value]:
    """`Gemm` of a matrix; else `MatMul` with the weights transposed, then `Add`."""
    x, w, bias = site.value("input"), site.value("weight"), site.optional("bias")
    rest = [] if bias is None else [bias]
    if x.type.rank == 2 and w.type.rank == 2:
        return site.results(Gemm(trans_b=True), x, w, *rest)
    turned = swapped(site, w) if w.type.rank > 1 else w
    return _product(site, x, turned, bias)


def _product(site: Site, a: Value, b: Value, bias: Value | None) -> list[Value]:
    if bias is None:
        return site.results(MatMul(), a, b)
    return site.results(Add(), site.emit(MatMul(), a, b), bias)


def matmul(first: str, second: str) -> Rule:
    """A product of matrices, batches of them, or vectors."""

    def rule(site: Site) -> list[Value]:
        return site.results(MatMul(), site.value(first), site.value(second))

    rule.__doc__ = "`MatMul`"
    return rule


def addmm(site: Site) -> list[Value]:
    """`Gemm`."""
    op = Gemm(site.number("alpha"), site.number("beta"))
    return site.results(op, site.value("mat1"), site.value("mat2"), site.value("self"))


def baddbmm(site: Site) -> list[Value]:
    """`MatMul`, then `Add`."""
    y = site.emit(MatMul(), site.value("batch1"), site.value("batch2"))
    x = site.value("self")
    for name in ("alpha", "beta"):
        factor = site.number(name)
        if factor != 1:
            scaled = site.constant(np.asarray(factor, site.dtype))
            if name == "alpha":
                y = site.emit(Mul(), y, scaled)
            else:
                x = site.emit(Mul(), x, scaled)
    return site.results(Add(), y, x)


def max_pool(site: Site) -> list[Value | None]:
    """`MaxPool`, values only."""
    x = site.value("self")
    n = len(site.ints("kernel_size"))
    n = max(n, x.type.rank - 2 if n == 1 else n)
    kernel, padding, dilation = (_each(site, k, n) for k in ("kernel_size", "padding", "dilation"))
    strides = _each(site, "stride", n) or kernel
    op = MaxPool(kernel, strides, (*padding, *padding), dilation, site.flag("ceil_mode"))
    _with_batch(x, n)
    return [*site.builder.emit(op, [x], site.outputs[:1], site.origin), None]


def average_pool(site: Site) -> list[Value]:
    """`AveragePool`; another divisor is a factor after it."""
    x = site.value("self")
    n = max(len(site.ints("kernel_size")), x.type.rank - 2)
    kernel, padding = _each(site, "kernel_size", n), _each(site, "padding", n)
    strides = _each(site, "stride", n) or kernel
    op = AveragePool(
        kernel, strides, (*padding, *padding), (1,) * n, site.flag("ceil_mode"),
        site.flag("count_include_pad"),
    )  # fmt: skip
    _with_batch(x, n)
    if not site.has("divisor_override"):
        return site.results(op, x)
    if site.flag("ceil_mode") or (any(padding) and not op.count_include_pad):
        raise Unsupported("divisor_override with windows that are cut at the edge")
    factor = float(np.prod(kernel)) / site.integer("divisor_override")
    return site.results(Mul(), site.emit(op, x), site.constant(np.asarray(factor, site.dtype)))


def _with_batch(x: Value, n: int) -> None:
    if x.type.rank != n + 2:
        raise Unsupported(f"pooling of {x.type}, which has no batch axis")


def adaptive_average_pool(site: Site) -> list[Value]:
    """`GlobalAveragePool` to one pixel; else a `MatMul` per axis with the means of buckets."""
    x, sizes = site.value("self"), site.ints("output_size")
    _with_batch(x, len(sizes))
    if all(s == 1 for s in sizes):
        return site.results(GlobalAveragePool(), x)
    space = x.type.static[2:]
    if all(d % s == 0 for d, s in zip(space, sizes, strict=True)):
        kernel = tuple(d // s for d, s in zip(space, sizes, strict=True))
        return site.results(
            AveragePool(kernel, kernel, (0,) * 2 * len(sizes), (1,) * len(sizes)), x
        )
    if len(sizes) > 2:
        raise Unsupported(f"{space} pixels in {sizes} unequal parts")
    means = [
        site.constant(_buckets(d, s).astype(site.dtype)) for d, s in zip(space, sizes, strict=True)
    ]
    turned = site.constant(np.ascontiguousarray(np.asarray(means[-1].data).T))
    if len(sizes) == 1:
        return site.results(MatMul(), x, turned)
    return site.results(MatMul(), means[0], site.emit(MatMul(), x, turned))


def adaptive_max_pool(site: Site) -> list[Value | None]:
    """`GlobalMaxPool` to one pixel; `MaxPool` where the sizes divide, values only."""
    x, sizes = site.value("self"), site.ints("output_size")
    _with_batch(x, len(sizes))
    if all(s == 1 for s in sizes):
        return [*site.builder.emit(GlobalMaxPool(), [x], site.outputs[:1], site.origin), None]
    space = x.type.static[2:]
    if any(d % s for d, s in zip(space, sizes, strict=True)):
        raise Unsupported(f"{space} pixels in {sizes} equal parts")
    kernel = tuple(d // s for d, s in zip(space, sizes, strict=True))
    op = MaxPool(kernel, kernel, (0,) * 2 * len(sizes), (1,) * len(sizes))
    return [*site.builder.emit(op, [x], site.outputs[:1], site.origin), None]


def _buckets(count: int, parts: int) -> Array:
    """The means of ``parts`` buckets of ``count`` elements, ``[parts, count]``."""
    matrix = np.zeros((parts, count))
    ends: Sequence[int] = [-(-(i + 1) * count // parts) for i in range(parts)]
    for i, end in enumerate(ends):
        start = i * count // parts
        matrix[i, start:end] = 1 / (end - start)
    return matrix
