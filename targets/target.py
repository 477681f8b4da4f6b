"""One target: what a machine can do, checked when it is made from its TOML table."""

import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from ..ir.errors import TargetError, nearest
from .cpus import ARM, CPUS, CUDA, IMPLIES, TILES, UNUSED, X86, Features


@dataclass(frozen=True)
class Instruction:
    """A multiply-accumulate instruction: ``m x n`` sums in int32 over ``k`` bytes."""

    name: str
    m: int
    n: int
    k: int


@dataclass(frozen=True)
class Target:
    """A machine that code is generated for.

    ``features`` (LLVM's names) select the kernels; ``cpu`` (LLVM's name) is what LLVM schedules
    for.  Caches are in bytes, ``vector_bytes`` is the width of a vector register.  ``link`` is the
    command that links a shared library (empty: the system's compiler), ``emulator`` the one that
    runs programs for this target elsewhere, which ``standalone`` links (without shared libraries).
    ``arch`` is set for CUDA (``sm_80``), whose ``triple`` and ``cpu`` are those of the host code.
    """

    name: str
    triple: str
    description: str = ""
    cpu: str = ""
    arch: str = ""
    features: Features = frozenset()
    instructions: tuple[Instruction, ...] = ()
    l1: int = 32 << 10
    l2: int = 1 << 20
    l3: int = 0
    cores: int = 1
    vector_bytes: int = 16
    link: tuple[str, ...] = ()
    emulator: tuple[str, ...] = ()
    standalone: tuple[str, ...] = ()
    available: bool = field(default=True)

    @property
    def family(self) -> str:
        """``x86``, ``arm`` or ``cuda``: whose features it may have."""
        if self.arch:
            return "cuda"
        return "x86" if self.triple.startswith(("x86_64", "i686")) else "arm"

    @property
    def emulated(self) -> bool:
        """Whether this target's programs can be emulated here (for CUDA by a part of them).

        Those with AMX are where only its tiles are missing.
        """
        if self.arch:
            return platform.machine() in ("x86_64", "AMD64")
        if self.has("amx-int8"):
            from .host import missing_features  # which makes targets itself

            lacking = missing_features(self)
            return bool(lacking) and TILES.issuperset(lacking)
        return bool(self.emulator) and shutil.which(self.emulator[0]) is not None

    @property
    def required(self) -> Features:
        """All features that generated code may use: the kernels' and those that LLVM adds.

        Of CUDA's host code alone.
        """
        own = frozenset() if self.arch else self.features
        return (own | CPUS.get(self.cpu, frozenset())) - UNUSED.get(self.cpu, frozenset())

    def has(self, *names: str) -> bool:
        """Whether all these features are there; ``TargetError`` for one that does not exist."""
        for name in names:
            if name not in IMPLIES:
                raise TargetError(f"unknown feature {name!r}; {nearest(name, IMPLIES)}")
        return self.features.issuperset(names)

    def tvm(self) -> dict[str, object]:
        """TVM's own description (``tvm.target.Target`` takes dicts only)."""
        llvm: dict[str, object] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu}
        if not self.cpu:
            del llvm["mcpu"]
        if self.cpu in UNUSED:
            llvm["mattr"] = [f"-{name}" for name in sorted(UNUSED[self.cpu])]
        if self.triple.endswith("hf"):  # else TVM passes floats to libm in integer registers
            llvm["mfloat-abi"] = "hard"
        return {"kind": "cuda", "arch": self.arch, "host": llvm} if self.arch else llvm

    def table(self) -> dict[str, object]:
        """Plain data for a manifest; ``from_table`` takes it back."""
        out = asdict(self)
        out["features"] = sorted(self.features)
        out["instructions"] = {i.name: [i.m, i.n, i.k] for i in self.instructions}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in out.items()}

    def check_available(self) -> None:
        """``TargetError`` unless code can be generated for this target."""
        if not self.available:
            raise TargetError(
                f"target {self.name!r}: code generation for this target is not there yet"
            )


_KINDS: dict[str, type] = {
    **dict.fromkeys(("triple", "description", "cpu", "arch"), str),
    **dict.fromkeys(("features", "link", "emulator", "standalone"), list),
    **dict.fromkeys(("l1", "l2", "l3", "cores", "vector_bytes"), int),
    "instructions": dict,
    "available": bool,
}


def from_table(name: str, table: Mapping[str, object], where: str = "") -> Target:
    """A target from its table (``extends`` resolved); ``TargetError`` says what is wrong."""
    where = where or f"target {name!r}"
    given = {k: v for k, v in table.items() if k != "name"}
    for key, value in given.items():
        _check_key(key, value, where)
    if "triple" not in given:
        raise TargetError(f"{where}: 'triple' is missing (for example \"x86_64-linux-gnu\")")
    if "features" not in given:
        given["features"] = sorted(CPUS.get(str(given.get("cpu", "")), frozenset()))
    for key in ("features", "link", "emulator", "standalone"):
        given[key] = _strings(given.get(key, ()), f"{where}: {key}")
    given["features"] = frozenset(given["features"])  # type: ignore[call-overload]
    given["instructions"] = _instructions(given.get("instructions", {}), where)
    target = Target(name, **given)  # type: ignore[arg-type]
    if target.arch and not re.fullmatch(r"sm_[0-9]+", target.arch):
        raise TargetError(f'{where}: arch is sm_ and a number ("sm_86"), not {target.arch!r}')
    _check_features(target, where)
    return target


def _check_key(key: str, value: object, where: str) -> None:
    if key not in _KINDS:
        raise TargetError(f"{where}: unknown key {key!r}; {nearest(key, _KINDS)}")
    kind = _KINDS[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TargetError(f"{where}: {key} is a {kind.__name__}, not {value!r}")
    if kind is int and isinstance(value, int) and value < (0 if key == "l3" else 1):
        raise TargetError(f"{where}: {key} = {value} must be positive")


def _strings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise TargetError(f"{where} is a list of strings, not {value!r}")
    return tuple(value)


def _instructions(value: object, where: str) -> tuple[Instruction, ...]:
    assert isinstance(value, Mapping)
    out = []
    for name, shape in value.items():
        if not (isinstance(shape, list) and len(shape) == 3 and all(type(d) is int for d in shape)):
            raise TargetError(f"{where}: instruction {name!r} is [m, n, k], not {shape!r}")
        out.append(Instruction(str(name), *shape))
    return tuple(out)


def _check_features(target: Target, where: str) -> None:
    legal = {"x86": X86, "arm": ARM, "cuda": CUDA}[target.family]
    if target.cpu and target.cpu not in CPUS:
        raise TargetError(f"{where}: unknown cpu {target.cpu!r}; {nearest(target.cpu, CPUS)}")
    for name in sorted(target.features):
        if name not in IMPLIES:
            raise TargetError(f"{where}: unknown feature {name!r}; {nearest(name, IMPLIES)}")
        if name not in legal:
            raise TargetError(f"{where}: feature {name!r} does not exist on {target.triple}")
        for base in IMPLIES[name]:
            if base not in target.features:
                raise TargetError(f"{where}: feature {name!r} needs {base!r}, which is not listed")
        if target.family != "cuda" and name not in CPUS.get(target.cpu, legal):
            raise TargetError(f"{where}: cpu {target.cpu!r} does not have feature {name!r}")
    if target.family != "cuda" and not CPUS.get(target.cpu, frozenset()) <= legal:
        raise TargetError(f"{where}: cpu {target.cpu!r} is not one of {target.triple}")


FIELDS = tuple(f.name for f in fields(Target))
