"""Reading between the elements, against onnxruntime."""

import numpy as np
import pytest

from qc.ir import Graph, ops
from qc.ir.errors import VerifyError

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(agree, mode, padding, align):
    grid = RNG.uniform(-1.6, 1.6, (2, 3, 4, 2)).astype(np.float32)
    agree(ops.GridSample(mode, padding, align), normal(2, 3, 5, 6), grid, rtol=1e-4, atol=1e-5)


def test_grid_sample_of_volumes(agree):
    grid = RNG.uniform(-1.2, 1.2, (1, 2, 3, 4, 3)).astype(np.float32)
    agree(ops.GridSample(), normal(1, 2, 3, 4, 5), grid, rtol=1e-4, atol=1e-5)


def test_a_grid_of_other_points_is_named():
    graph = Graph("g")
    x, grid = graph.constant(normal(1, 1, 4, 4)), graph.constant(normal(1, 2, 2, 3))
    with pytest.raises(VerifyError, match="has no points in"):
        graph.add(ops.GridSample(), [x, grid])


@pytest.mark.parametrize(("group", "offset_group"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1)])
def test_deformable_convolution(agree, group, offset_group, strides):
    x, w = normal(2, 4, 6, 5), normal(6, 4 // group, 3, 2)
    out = (6 // strides[0], 4)
    offset, mask = normal(2, offset_group * 12, *out), normal(2, offset_group * 6, *out)
    op = ops.DeformConv(strides, (1, 0, 1, 0), (1, 1), group, offset_group)
    agree(op, x, w, offset, normal(6), mask, rtol=1e-4, atol=1e-5)


def test_without_offsets_it_is_a_convolution():
    x, w = normal(1, 2, 6, 6), normal(3, 2, 3, 3)
    (plain,) = ops.Conv(dilations=(2, 1)).eval([x, w])
    offset = np.zeros((1, 18, *plain.shape[2:]), np.float32)
    (moved,) = ops.DeformConv(dilations=(2, 1)).eval([x, w, offset])
    np.testing.assert_allclose(moved, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transform", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_regions(agree, ratio, transform):
    regions = np.float32([[0, 0, 5, 7], [3, 2, 9.5, 6], [-2, 1, 20, 4]])
    op = ops.RoiAlign("avg", 3, 2, ratio, 0.5, transform)
    agree(op, normal(2, 3, 8, 9), regions, np.array([0, 1, 1]), rtol=1e-4, atol=1e-5)
