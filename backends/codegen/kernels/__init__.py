"""Kernel templates for x86 and ARM: convolution, matrix product and depthwise convolution.

``templates`` finds those of a workload; ``compile_kernel`` (in ``.compile``) makes an object
file from its PrimFunc. Importing this package imports tvm.
"""

from .avx2_short import ShortConv
from .conv import ConvWorkload
from .depthwise_plan import DepthwiseWorkload
from .epilogue import Epilogue, FloatEpilogue, Residual
from .scheduled import SCHEDULED, Trace, has_plain
from .selection import VERSION, template_of, templates, weighed
from .template import Knobs, Template, default_knobs, start
from .view import View

__all__ = [
    "SCHEDULED",
    "VERSION",
    "ConvWorkload",
    "DepthwiseWorkload",
    "Epilogue",
    "FloatEpilogue",
    "Knobs",
    "Residual",
    "ShortConv",
    "Template",
    "Trace",
    "View",
    "default_knobs",
    "has_plain",
    "start",
    "template_of",
    "templates",
    "weighed",
]
