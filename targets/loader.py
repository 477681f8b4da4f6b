"""Targets by name: shipped TOML files, plugins, files of the user.

A plugin's entry point in the group ``qc.targets`` names an object that is the path of a TOML file.
"""

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

from ..ir.errors import TargetError, nearest
from .host import host
from .target import Target, from_table

_SHIPPED = Path(__file__).parent
_ORDER = (
    "host", "x86", "x86-vnni", "x86-amx", "arm", "arm-v8", "arm-i8mm", "arm-v7",
    "cuda", "cuda-sm75", "cuda-sm90",
)  # fmt: skip


def names() -> list[str]:
    """The names of all targets: shipped ones first, then plugins'."""
    return [*_ORDER, *sorted(_plugins())]


def load(name: str | Path | Target) -> Target:
    """A target by its name or the path of a TOML file; ``TargetError`` with the nearest name."""
    if isinstance(name, Target):
        return name
    if str(name) == "host":
        return host()
    path = _find(str(name))
    return from_table(
        path.stem if path.parent != _SHIPPED else str(name), _resolve(path, ()), str(path)
    )


def _find(name: str) -> Path:
    if name in _ORDER:
        return _SHIPPED / f"{name}.toml"
    if name in (plugins := _plugins()):
        return plugins[name]
    path = Path(name)
    if path.suffix == ".toml" or "/" in name:
        if not path.is_file():
            raise TargetError(f"target file {name!r} does not exist")
        return path
    raise TargetError(f"unknown target {name!r}; {nearest(name, names())}")


def _plugins() -> dict[str, Path]:
    found: dict[str, Path] = {}
    owner: dict[str, str] = {}
    for point in entry_points(group="qc.targets"):
        if point.name in _ORDER or point.name in found:
            other = owner.get(point.name, "qc")
            raise TargetError(
                f"target {point.name!r} comes from {other!r} and from {point.value!r}"
            )
        found[point.name], owner[point.name] = Path(str(point.load())), point.value
    return found


def _resolve(path: Path, seen: tuple[Path, ...]) -> dict[str, object]:
    """The table of a file with all that it extends underneath; ``cpu`` brings its own features."""
    if path in seen:
        raise TargetError(f"{path}: extends itself through {' -> '.join(p.name for p in seen)}")
    table = _read(path)
    base_name = table.pop("extends", None)
    if base_name is None:
        return table
    if not isinstance(base_name, str):
        raise TargetError(f"{path}: extends is the name of a target, not {base_name!r}")
    base = _base(base_name, path, seen)
    if "cpu" in table and "features" not in table:
        base.pop("features", None)
    return {**base, **table}


def _base(name: str, path: Path, seen: tuple[Path, ...]) -> dict[str, object]:
    if name == "host":
        return {k: v for k, v in host().table().items() if k not in ("name", "description")}
    beside = path.parent / name
    if name.endswith(".toml") and beside.is_file():
        return _resolve(beside, (*seen, path))
    return _resolve(_find(name), (*seen, path))


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(f"target file {str(path)!r} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"{path}: not TOML: {error}") from error
