"""Make ``import qc`` work from an uninstalled checkout: the repository root is the package."""

import gc
import os
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from hypothesis import settings

if find_spec("qc") is None:
    root = Path(__file__).resolve().parent.parent
    spec = spec_from_file_location(
        "qc", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["qc"] = module
    spec.loader.exec_module(module)

sys.path.insert(0, str(Path(__file__).resolve().parent))

os.environ["QC_DB"] = os.devnull  # no kernels that somebody tuned here before

# The same examples on every machine: what fails for a change fails because of it.  Others are
# looked for on purpose: `QC_EXPLORE=1 pytest tests/ir`, many times.
settings.register_profile("qc", deadline=None, derandomize="QC_EXPLORE" not in os.environ)
settings.load_profile("qc")


def pytest_collection_finish() -> None:
    """What the modules under test have loaded stays: no collection of garbage need look at it.

    torch, TVM and the tests are 400,000 objects, half of what collections look at.
    """
    gc.collect()
    gc.freeze()
