"""Channels to blocks of pixels and back."""

import numpy as np
import pytest

from qc.ir import ops


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(agree, mode):
    agree(ops.DepthToSpace(2, mode), np.arange(48, dtype=np.float32).reshape(1, 8, 2, 3))


def test_space_to_depth(agree):
    agree(ops.SpaceToDepth(2), np.arange(48, dtype=np.float32).reshape(1, 2, 4, 6))
