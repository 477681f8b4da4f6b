"""Target descriptions: inheritance, refusals, and the detection of this machine."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from qc import targets
from qc.ir.errors import TargetError
from qc.targets import host, loader
from qc.targets.cpus import CPUS, IMPLIES
from qc.targets.target import from_table

SAPPHIRE = (
    "processor : 0\nflags : fpu sse2 ssse3 sse4_1 sse4_2 popcnt abm movbe bmi1 bmi2 avx f16c fma "
    "avx2 "
    "avx512f avx512cd avx512dq avx512bw avx512vl avx512_vnni avx512vbmi avx512_vbmi2 avx512ifma "
    "avx512_bitalg avx512_vpopcntdq avx512_bf16 avx512_fp16 avx_vnni gfni vaes vpclmulqdq"
)


@pytest.mark.parametrize("name", targets.names())
def test_every_shipped_target_loads(name: str) -> None:
    target = targets.load(name)
    assert target.name == name
    assert target.description
    assert target.tvm()["kind"] == ("cuda" if name.startswith("cuda") else "llvm")


@pytest.mark.parametrize(
    ("name", "has", "lacks"),
    [
        ("x86", "avx2", "avx512f"),
        ("x86-vnni", "avx512vnni", "amx-int8"),
        ("x86-amx", "amx-int8", "dotprod"),
        ("arm-v8", "neon", "dotprod"),
        ("arm", "dotprod", "i8mm"),
        ("arm-i8mm", "i8mm", "avx2"),
    ],
)
def test_features_follow_the_cpu(name: str, has: str, lacks: str) -> None:
    target = targets.load(name)
    assert target.has(has)
    assert not target.has(lacks)


def test_targets_without_code_generation_say_so() -> None:
    foreign = host.host(frozenset(), "riscv64")
    with pytest.raises(TargetError, match=r"'host'.*not there yet"):
        foreign.check_available()
    for name in targets.names():
        targets.load(name).check_available()


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(TargetError, match="unknown target 'x86-vni'; did you mean 'x86-vnni'"):
        targets.load("x86-vni")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_user_file_extends_a_shipped_target(tmp_path: Path) -> None:
    path = write(tmp_path / "board.toml", 'extends = "x86-vnni"\ncores = 4\nl2 = 4096\n')
    target = targets.load(path)
    assert (target.name, target.cores, target.l2) == ("board", 4, 4096)
    assert target.features == targets.load("x86-vnni").features


def test_user_file_extends_its_neighbour_and_host(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", 'extends = "host"\ncores = 3\n')
    target = targets.load(write(tmp_path / "b.toml", 'extends = "a.toml"\nl1 = 1024\n'))
    assert (target.cores, target.l1, target.cpu) == (3, 1024, targets.load("host").cpu)


def test_another_cpu_brings_its_own_features(tmp_path: Path) -> None:
    target = targets.load(write(tmp_path / "t.toml", 'extends = "x86-amx"\ncpu = "skylake"\n'))
    assert target.features == CPUS["skylake"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "x86"\nfeture = []', "unknown key 'feture'; did you mean 'features'"),
        ('extends = "x86"\nfeatures = ["avx3"]', "unknown feature 'avx3'; did you mean 'avx"),
        ('extends = "x86"\nfeatures = ["neon"]', "'neon' does not exist on x86_64"),
        ('extends = "x86-vnni"\nfeatures = ["avx512vnni"]', "needs 'avx512f', which is not listed"),
        ('extends = "x86"\nfeatures = ["amx-tile"]', "'haswell' does not have feature 'amx-tile'"),
        ('extends = "x86"\ncpu = "hasswell"', "unknown cpu 'hasswell'; did you mean 'haswell'"),
        ('extends = "x86"\ncpu = "cortex-a76"\nfeatures=[]', "'cortex-a76' is not one of x86_64"),
        ('extends = "x86"\ncores = "two"', "cores is a int, not 'two'"),
        ('extends = "x86"\ncores = true', "cores is a int, not True"),
        ('extends = "x86"\nl1 = 0', "l1 = 0 must be positive"),
        ('extends = "x86"\nlink = [1]', "link is a list of strings"),
        ('extends = "x86"\n[instructions]\nfoo = [1]', r"'foo' is \[m, n, k\]"),
        ('cpu = "haswell"', "'triple' is missing"),
        ('extends = "cuda"\narch = "sm_90a"', "arch is sm_ and a number"),
        ('extends = "cuda"\narch = "ampere"', "arch is sm_ and a number"),
        ('extends = "t.toml"', "extends itself"),
        ("extends = 3", "extends is the name of a target"),
        ("cpu = ", "not TOML"),
    ],
)
def test_wrong_descriptions_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "t.toml", text)
    with pytest.raises(TargetError, match=message) as error:
        targets.load(path)
    assert "t.toml" in str(error.value)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="does not exist"):
        targets.load(tmp_path / "no.toml")


def test_table_round_trips() -> None:
    target = targets.load("x86-amx")
    assert from_table(target.name, target.table()) == target


def test_flags_choose_the_cpu() -> None:
    without = host.parse_flags(SAPPHIRE)
    assert host.best_cpu(without, "x86_64") == "icelake-server"
    full = host.parse_flags(SAPPHIRE + " amx_tile amx_int8 amx_bf16")
    assert host.best_cpu(full, "x86_64") == "sapphirerapids"
    assert host.best_cpu(frozenset(), "x86_64") == "x86-64"
    arm = host.parse_flags("Features : fp asimd asimdhp asimddp")
    assert host.best_cpu(arm, "aarch64") == "cortex-a76"


def test_host_describes_its_instructions() -> None:
    target = host.host(CPUS["cascadelake"], "x86_64")
    assert (target.vector_bytes, target.has("avx512vnni")) == (64, True)
    assert [i.name for i in target.instructions] == ["vpdpbusd", "vpmaddwd"]


def test_missing_features_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "features", lambda: CPUS["haswell"])
    monkeypatch.setattr(host.platform, "machine", lambda: "x86_64")
    assert targets.missing_features(targets.load("x86")) == []
    assert "avx512vnni" in targets.missing_features(targets.load("x86-vnni"))
    assert targets.missing_features(["avx2", "amx-int8"]) == ["amx-int8"]
    assert targets.missing_features(targets.load("arm")) == ["a machine aarch64 (this is x86_64)"]
    monkeypatch.setattr(host, "compute_capability", lambda: 75)
    assert targets.missing_features(targets.load("cuda")) == ["a CUDA device sm_80"]
    assert targets.missing_features(targets.load("cuda-sm75")) == []


def test_plugins_are_found_and_duplicates_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "board.toml", 'extends = "x86"\n')
    points = [SimpleNamespace(name="board", value="plug:BOARD", load=lambda: path)]
    monkeypatch.setattr(loader, "entry_points", lambda group: points)
    assert targets.load("board").cpu == "haswell"
    assert "board" in targets.names()
    points.append(SimpleNamespace(name="board", value="other:BOARD", load=lambda: path))
    with pytest.raises(TargetError, match="'plug:BOARD' and from 'other:BOARD'"):
        targets.names()


def test_every_cpu_is_closed_under_implication() -> None:
    for cpu, features in CPUS.items():
        for feature in features:
            assert set(IMPLIES[feature]) <= features, (cpu, feature)
