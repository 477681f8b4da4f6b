"""Who may import whom, and how large and how named files may be."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {"tests", "demo", "benchmarks", "docs", "build", "dist", "demo-out"}
ARROWS = {
    "ir": {"ir"},
    "targets": {"targets", "ir"},
    "frontends": {"frontends", "ir"},
    "passes": {"passes", "ir", "targets"},
    "backends": {"backends", "ir", "targets"},
    "data": {"data", "ir"},
}
"""What each room may import."""

ABOVE = {"console", "diagnosis", "reporting", "scoring"}
"""Rooms that, as modules at the root, may import everything, but ``console`` only from itself."""

LINES = 400
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}


def sources() -> dict[str, Path]:
    """All modules of the package by dotted name (a package goes by its ``__init__``)."""
    found = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).parts
        if parts[0] not in OUTSIDE and not parts[0].startswith("."):
            found[".".join(("qc", *parts[:-1], file.stem))] = file
    return found


MODULES = sources()


@cache  # three tests read all modules
def imports_in(source: str) -> list[ast.Import | ast.ImportFrom]:
    """All import statements, inside functions as well."""
    nodes = ast.walk(ast.parse(source))
    return [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]


def targets_of(module: str, source: str, relative: bool = True) -> set[str]:
    """Dotted names that ``module`` imports; relative ones are resolved, or left out."""
    found = set()
    for node in imports_in(source):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif relative or not node.level:
            base = module.split(".")[: -node.level] if node.level else []
            base += (node.module or "").split(".") if node.module else []
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def room(dotted: str) -> str:
    """``ir`` for ``qc.ir.graph.Graph``, ``root`` for ``qc.api.compile``."""
    second = [*dotted.split("."), ""][1]
    return second if second in {*ARROWS, *ABOVE} else "root"


def violations(module: str, source: str) -> list[str]:
    """What ``module`` imports from rooms that it must not know."""
    here = room(module)
    inside = (name for name in targets_of(module, source) if name.split(".")[0] == "qc")
    return sorted(f"{module} imports {name}" for name in inside if not allowed(here, room(name)))


def allowed(here: str, there: str) -> bool:
    """Whether one room may import another."""
    if here in ARROWS:
        return there in ARROWS[here]
    return there != "console" or here == there


def absolute(source: str) -> list[str]:
    """Imports of the package by its own name."""
    return sorted(n for n in targets_of("qc.any", source, relative=False) if _is_own(n))


def _is_own(name: str) -> bool:
    return name.split(".")[0] == "qc"


def test_the_rooms_are_the_packages() -> None:
    rooms = {name.split(".")[1] for name in MODULES if name.count(".") > 1}
    assert rooms == {*ARROWS, *ABOVE}


def test_imports_follow_the_arrows() -> None:
    found = [v for name, file in MODULES.items() for v in violations(name, file.read_text())]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("qc.ir.graph", "from ..passes import manager"),
        ("qc.ir.graph", "from .. import passes"),
        ("qc.ir.ops.nn", "def f():\n    from ...backends.qdq import writer"),
        ("qc.frontends.from_onnx", "from ..passes.base import Pass"),
        ("qc.passes.quantize", "from ..backends.qdq.executor import OnnxRuntimeExecutor"),
        ("qc.passes.quantize", "from .. import api"),
        ("qc.backends.qdq.writer", "from ...passes.base import Pass"),
        ("qc.targets.loader", "from ..api import load"),
        ("qc.ir.graph", "import qc.api"),
        ("qc.data.dataset", "from ..scoring.metrics import metric"),
        ("qc.compiler", "from .console.tune import do_tune"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert violations(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("qc.ir.ops.nn", "from .. import types\nfrom ..types import Array\nfrom .base import Op"),
        ("qc.passes.quantize", "from ..targets import Target\nfrom ..ir.graph import Graph"),
        ("qc.passes.__init__", "from .manager import PassManager"),
        ("qc.api", "from .passes import manager\nfrom .backends.qdq import writer"),
        ("qc.console.tune", "from .. import api\nfrom .commands import shown"),
        ("qc.scoring.judge", "from ..compiler import prepare"),
    ],
)
def test_an_allowed_import_is_not(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_inside_the_package_imports_are_relative() -> None:
    found = {name: absolute(file.read_text()) for name, file in MODULES.items()}
    assert {name: names for name, names in found.items() if names} == {}


def test_an_absolute_import_is_found() -> None:
    assert absolute("from qc.ir import graph\nfrom .ir import types\nimport qc") == [
        "qc",
        "qc.ir.graph",
    ]


def test_no_file_is_too_long() -> None:
    lengths = {name: len(file.read_text().splitlines()) for name, file in MODULES.items()}
    assert {name: n for name, n in lengths.items() if n > LINES} == {}


def test_no_module_is_named_after_a_library() -> None:
    """Not after a library that the package uses, nor after a standard one that it imports."""
    imports = {
        name: {t.split(".")[0] for t in targets_of(name, file.read_text(), relative=False)}
        for name, file in MODULES.items()
    }
    libraries = set().union(*imports.values()) - sys.stdlib_module_names
    stems = {name: name.rsplit(".", 1)[1] for name in MODULES}
    assert {n for n, stem in stems.items() if stem in libraries or stem in imports[n]} == set()


def test_no_module_has_a_vague_name() -> None:
    assert [name for name in MODULES if name.rsplit(".", 1)[1] in VAGUE] == []
