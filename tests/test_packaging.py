"""What pyproject.toml says is what is in the tree, and importing costs nothing."""

import ast
import json
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import qc
from qc import cli

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {"tests", "demo", "benchmarks", "docs", "build", "dist", "demo-out"}
HEAVY = {
    "numpy", "scipy", "onnx", "onnxruntime", "onnx_graphsurgeon", "tvm", "tvm_ffi", "torch", "rich",
    "jinja2", "PIL", "safetensors",
}  # fmt: skip
DISTRIBUTION = {
    "PIL": "pillow", "google": "protobuf", "tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi",
}  # fmt: skip
OPTIONAL = {"torch", "ziglang"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def folders() -> list[Path]:
    """Folders of the package that hold Python files, relative to the root."""
    inside = (p.relative_to(ROOT) for p in ROOT.rglob("*.py"))
    parts = {p.parent for p in inside}
    return sorted(
        p for p in parts if not (p.parts and (p.parts[0] in OUTSIDE or p.parts[0].startswith(".")))
    )


def dotted(folder: Path) -> str:
    return ".".join(("qc", *folder.parts))


def sources() -> list[Path]:
    return [file for folder in folders() for file in sorted((ROOT / folder).glob("*.py"))]


def test_every_subpackage_is_listed() -> None:
    assert SETUPTOOLS["packages"] == [dotted(f) for f in folders()]


def test_every_folder_of_the_package_has_an_init_file() -> None:
    assert [str(f) for f in folders() if not (ROOT / f / "__init__.py").is_file()] == []


def test_data_files_are_shipped() -> None:
    listed = {dotted(f): (ROOT / f) for f in folders()}
    missing = []
    for name, folder in listed.items():
        patterns = SETUPTOOLS["package-data"].get(name, [])
        if name == "qc":
            files = {*folder.glob("*.typed"), *folder.glob("*.j2")}
        else:
            nested = [p for p in listed.values() if p != folder and folder in p.parents]
            files = {
                f
                for f in folder.rglob("*")
                if f.is_file() and f.suffix not in {".py", ".pyc"}
                if not any(part.startswith(".") for part in f.relative_to(ROOT).parts)
                if not any(n in f.parents for n in nested)
            }
        relative = sorted(str(f.relative_to(folder)) for f in files)
        missing += [f"{name}: {f}" for f in relative if not any(fnmatch(f, p) for p in patterns)]
    assert missing == []


def test_every_data_pattern_matches_a_file() -> None:
    patterns = SETUPTOOLS["package-data"].items()
    places = {
        f"{name}: {glob}": ROOT.joinpath(*name.split(".")[1:]).glob(glob)
        for name, globs in patterns
        for glob in globs
    }
    assert [place for place, found in places.items() if not any(found)] == []


def imported() -> set[str]:
    """Top-level names of the libraries that the package imports anywhere."""
    found = set()
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names


def test_dependencies_are_what_is_imported() -> None:
    needed = {DISTRIBUTION.get(n, n).replace("_", "-") for n in imported() - OPTIONAL}
    declared = {
        d.partition("=")[0].partition(">")[0].strip() for d in PROJECT["project"]["dependencies"]
    }
    assert declared == needed


def test_tvm_and_its_ffi_are_pinned() -> None:
    pins = {"apache-tvm==0.27.0.post1", "apache-tvm-ffi==0.1.14.post1"}
    assert pins <= set(PROJECT["project"]["dependencies"])


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after ``code``."""
    start = f"""
import json, sys
from importlib.util import module_from_spec, spec_from_file_location
root = {str(ROOT)!r}
spec = spec_from_file_location("qc", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["qc"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["qc"])
{code}
print("\\n" + json.dumps([name.partition(".")[0] for name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", start], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_loads_nothing_heavy() -> None:
    assert loaded("import qc; dir(qc); qc.__version__") & HEAVY == set()


def test_an_artifact_is_loaded_without_what_only_compilers_need() -> None:
    code = "from qc.backends.codegen.artifact import Artifact; import qc.ir"
    assert loaded(code) & (HEAVY | {"networkx"}) == {"numpy"}


def test_the_check_for_heavy_modules_sees_them() -> None:
    assert "numpy" in loaded("import qc; qc.Graph")


@pytest.mark.parametrize("words", [[], ["compile"], ["eval"], ["bench"], ["doctor"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = f"""
from qc.cli import main
try:
    main({[*words, "--help"]!r})
except SystemExit as end:
    assert end.code == 0, end.code
"""
    assert loaded(code) & HEAVY == set()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert SETUPTOOLS["dynamic"]["version"] == {"attr": "qc.__version__"}
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"qc {qc.__version__}\n"


def test_the_public_face_is_complete() -> None:
    assert [name for name in qc.__all__ if getattr(qc, name, None) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = qc.nothing
