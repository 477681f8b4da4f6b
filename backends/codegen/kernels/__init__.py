"""Kernel templates for x86 and ARM: convolution, matrix product and depthwise convolution.

``select`` finds the template of a workload; ``compile_kernel`` (in ``.compile``) makes an object
file from its PrimFunc. Importing this package imports tvm.
"""

from .conv import ConvWorkload
from .depthwise_plan import DepthwiseWorkload
from .epilogue import Epilogue, FloatEpilogue, Residual
from .selection import select
from .template import Template, start
from .view import View

__all__ = [
    "ConvWorkload",
    "DepthwiseWorkload",
    "Epilogue",
    "FloatEpilogue",
    "Residual",
    "Template",
    "View",
    "select",
    "start",
]
