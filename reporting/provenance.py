"""What results were made from: versions of packages."""

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "onnx", "onnxruntime", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that decide what comes out."""
    out = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out
