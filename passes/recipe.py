"""Recipes: TOML files with an ordered list of passes and their options.  ::

description = "int8 weights and activations by calibration"
needs-calibration = true
default = "with-calibration"

[[pass]]
name = "calibrate"
method = "mse"
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..ir.errors import PreconditionError, nearest
from .base import Pass
from .table import make_pass

SHIPPED = Path(__file__).parent / "recipes"
KEYS = {"default", "description", "needs-calibration", "pass"}


@dataclass(frozen=True)
class Recipe:
    """A named list of passes."""

    name: str
    description: str
    needs_calibration: bool
    passes: tuple[Pass, ...]


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def default_recipe(calibrated: bool, quantized: bool = False) -> str:
    """The shipped recipe that is the default with (or without) calibration data.

    Networks that are ``quantized`` already have a default of their own.
    """
    wanted = "with-calibration" if calibrated else "without-calibration"
    wanted = "quantized-already" if quantized else wanted
    for name in recipe_names():
        spec = tomllib.loads((SHIPPED / f"{name}.toml").read_text(encoding="utf-8"))
        if spec.get("default") == wanted:
            return name
    raise PreconditionError(f"no shipped recipe is the default {wanted}; name one by --recipe")


def load_recipe(name: str, options: Mapping[str, object] | None = None) -> Recipe:
    """A shipped recipe by name or a user's by path.

    ``options`` maps ``pass.option`` to a value and overrides the file.  ``PreconditionError``
    for unknown names, keys, passes and options, naming the nearest.
    """
    path = SHIPPED / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        raise PreconditionError(f"there is no recipe {name!r}; {nearest(name, recipe_names())}")
    try:
        spec = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PreconditionError(f"recipe {path}: {error}") from error
    for key in spec:
        if key not in KEYS:
            raise PreconditionError(f"recipe {path}: unknown key {key!r}; {nearest(key, KEYS)}")
    return Recipe(
        path.stem,
        str(spec.get("description", "")),
        bool(spec.get("needs-calibration", False)),
        _passes(path, spec.get("pass", []), options or {}),
    )


def _passes(path: Path, entries: object, overrides: Mapping[str, object]) -> tuple[Pass, ...]:
    if not isinstance(entries, list) or not entries:
        raise PreconditionError(f"recipe {path}: no [[pass]] in it")
    left = dict(overrides)
    out = []
    for entry in entries:
        options = dict(entry)
        name = str(options.pop("name", ""))
        for key in list(left):
            if key.rpartition(".")[0] == name:
                options[key.rpartition(".")[2]] = left.pop(key)
        out.append(make_pass(name, options))
    if left:
        key = next(iter(left))
        names = [p.name for p in out]
        raise PreconditionError(
            f"--set {key}: recipe {path.stem} has no pass {key.rpartition('.')[0]!r}; "
            f"{nearest(key.rpartition('.')[0], names)}"
        )
    return tuple(out)
