"""AMX's instructions on this cpu, or emulated here, against what Intel's manual says they do."""

import ctypes
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import set_up_tiles

from qc.backends.codegen import tile_registers
from qc.backends.codegen.link import compiler, run_compiler
from qc.targets import load, missing_features

Array = np.ndarray[Any, Any]
SIGNS = {"tdpbuud": (0, 0), "tdpbusd": (0, 1), "tdpbsud": (1, 0), "tdpbssd": (1, 1)}
PLACES = [(0, 1, 2), (7, 6, 5), (3, 0, 7)]
BASIC = {
    "configure": "ldtilecfg (%rdi)",
    "configuration": "sttilecfg (%rdi)",
    "release": "tilerelease",
    **{f"zero{t}": f"tilezero %tmm{t}" for t in range(8)},
    **{f"load{t}": f"tileloadd (%rdi,%rsi,1), %tmm{t}" for t in range(8)},
    **{f"store{t}": f"tilestored %tmm{t}, (%rdi,%rsi,1)" for t in range(8)},
    **{
        f"{name}{c}{a}{b}": f"{name} %tmm{b}, %tmm{a}, %tmm{c}"
        for name in SIGNS
        for c, a, b in PLACES
    },
}
ADDRESSES = {
    "far base": "mov %rdi, %r13; tileloadd (%r13,%rsi,1), %tmm0",
    "frame": "mov %rdi, %rbp; tileloadd (%rbp,%rsi,1), %tmm0",
    "twelve": "mov %rdi, %r12; tileloadd (%r12,%rsi,1), %tmm0",
    "twelfth index": "mov %rsi, %r12; tileloadd (%rdi,%r12,1), %tmm0",
    "far both": "mov %rdi, %r9; mov %rsi, %r15; tileloaddt1 (%r9,%r15,1), %tmm0",
    "scaled": "shr $3, %rsi; tileloadd (%rdi,%rsi,8), %tmm0",
    "near": "sub $64, %rdi; tileloadd 64(%rdi,%rsi,1), %tmm0",
    "behind": "add $64, %rdi; tileloadd -64(%rdi,%rsi,1), %tmm0",
    "distant": "add $4096, %rdi; tileloadd -4096(%rdi,%rsi,1), %tmm0",
    "stack": "mov %rsp, %rbx; mov %rdi, %rsp; tileloadd (%rsp,%rsi,1), %tmm0; mov %rbx, %rsp",
}
CONFIGURED = {
    "index alone": "ldtilecfg (,%rdi,1)",
    "with an index": "mov $16, %rax; ldtilecfg -128(%rdi,%rax,8)",
    "displaced": "mov %rdi, %r13; ldtilecfg (%r13)",
    "relative": "mov (%rdi), %rax; mov %rax, table(%rip); ldtilecfg table(%rip)",
}
KEPT = """vmovdqu64 (%rdi), %zmm21; vmovdqu64 (%rdi), %zmm3; kmovq (%rdi), %k5; mov (%rdi), %rax
movq %rax, -8(%rsp); movq %rax, -128(%rsp); stc
tilezero %tmm0
setc 144(%rsi); vmovdqu64 %zmm21, (%rsi); vmovdqu64 %zmm3, 64(%rsi); kmovq %k5, 128(%rsi)
mov -128(%rsp), %rcx; and -8(%rsp), %rcx; mov %rcx, 136(%rsi)"""
SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")


def assembled(code: Mapping[str, str], folder: Path) -> Path:
    """A library with a function for each piece of code: its arguments are in rdi and rsi."""
    push = "; ".join(f"push %{r}" for r in SAVED)
    pop = "; ".join(f"pop %{r}" for r in reversed(SAVED))
    text = [".section .note.GNU-stack", ".bss", ".balign 64", "table: .skip 64", ".text"]
    for name, lines in code.items():
        label = name.replace(" ", "_")
        text += [f".globl {label}", f".type {label}, @function", f"{label}:", push, lines, pop]
        text.append("ret")
    (folder / "code.s").write_text("\n".join(text) + "\n")
    run_compiler([*compiler(), "-shared", "-o", "code.so", "code.s"], folder)
    return folder / "code.so"


class Machine:
    """The functions of a library as methods that take arrays and numbers."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def __call__(self, name: str, *arguments: Array | int) -> None:
        """Call one."""
        numbers = [a if isinstance(a, int) else a.ctypes.data for a in arguments]
        function = getattr(self._library, name.replace(" ", "_"))
        function(*map(ctypes.c_int64, numbers))

    def configure(self, shapes: Mapping[int, tuple[int, int]]) -> None:
        """Rows and bytes of tiles by their numbers."""
        self("configure", table_of(shapes))

    def stored(self, tile: int, rows: int, width: int) -> Array:
        """What a tile holds, stored between bytes that must stay."""
        room = np.full((rows + 1, 80), 0xEE, np.uint8)
        self(f"store{tile}", room, 80)
        assert (room[rows:] == 0xEE).all()
        assert (room[:, width:] == 0xEE).all()
        return room[:rows, :width].copy()


def table_of(shapes: Mapping[int, tuple[int, int]], palette: int = 1) -> Array:
    """The configuration of palette 1."""
    table = np.zeros(64, np.uint8)
    table[0] = palette
    for tile, (rows, width) in shapes.items():
        table[16 + 2 * tile : 18 + 2 * tile] = [width & 255, width >> 8]
        table[48 + tile] = rows
    return table


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    set_up_tiles()
    single = {"no index": ".byte 0xc4, 0xe2, 0x7b, 0x4b, 0x1c, 0x27", "kept": KEPT}
    code = BASIC | ADDRESSES | CONFIGURED | single
    return Machine(assembled(code, tmp_path_factory.mktemp("tiles")))


@pytest.mark.parametrize("shape", [(16, 64, 64), (1, 4, 4), (13, 36, 20), (7, 64, 12), (16, 4, 64)])
@pytest.mark.parametrize("name", SIGNS)
def test_products(name: str, shape: tuple[int, int, int], machine: Machine) -> None:
    """Sums of four products each, which wrap around; all rows and bytes of a tile, and fewer."""
    rows, inner, width = shape
    rng = np.random.default_rng(sum(shape))
    for c, a, b in PLACES:
        machine.configure({c: (rows, width), a: (rows, inner), b: (inner // 4, width)})
        left = rng.integers(0, 256, (rows, inner)).astype(np.uint8)
        right = rng.integers(0, 256, (inner // 4, width)).astype(np.uint8)
        start = rng.integers(-(2**31), 2**31, (rows, width // 4)).astype(np.int32)
        start[0, 0] = 2**31 - 1
        for tile, data in ((a, left), (b, right), (c, start)):
            machine(f"load{tile}", data, data.strides[0])
        machine(f"{name}{c}{a}{b}")
        types = [np.int8 if signed else np.uint8 for signed in SIGNS[name]]
        one = left.view(types[0]).astype(np.int64)
        other = right.view(types[1]).reshape(inner // 4, width // 4, 4).transpose(0, 2, 1)
        want = start + one @ other.reshape(inner, width // 4).astype(np.int64)
        got = machine.stored(c, rows, width).view(np.int32)
        np.testing.assert_array_equal(got, want.astype(np.int32))
        np.testing.assert_array_equal(machine.stored(a, rows, inner), left)


@pytest.mark.parametrize("how", ADDRESSES)
def test_addresses(how: str, machine: Machine) -> None:
    room = np.random.default_rng(1).integers(0, 256, (1 << 16) + 4096).astype(np.uint8)
    data = room[1 << 16 :][: 16 * 72].reshape(16, 72)  # the stack of a signal grows down from it
    machine.configure({0: (11, 52)})
    machine(how, data, 72)
    np.testing.assert_array_equal(machine.stored(0, 11, 52), data[:11, :52])


@pytest.mark.parametrize(("how", "stride"), [("load3", 0), ("load3", -72), ("no index", 0)])
def test_strides(how: str, stride: int, machine: Machine) -> None:
    data = np.random.default_rng(2).integers(0, 256, (16, 72)).astype(np.uint8)
    machine.configure({3: (9, 64)})
    machine(how, data[9:], stride)
    want = data[9:10].repeat(9, 0) if stride == 0 else data[9:0:-1]
    np.testing.assert_array_equal(machine.stored(3, 9, 64), want[:, :64])


@pytest.mark.parametrize("how", ["configure", *CONFIGURED])
def test_configurations(how: str, machine: Machine) -> None:
    """What was configured is told; tiles are zero after it, and are gone after the release."""
    table, found = table_of({0: (3, 8), 7: (16, 64)}), np.ones(64, np.uint8)
    machine.configure({0: (16, 64)})
    machine("load0", np.ones((16, 64), np.uint8), 64)
    machine(how, table)
    machine("configuration", found)
    if how == "relative":  # which copies its first eight bytes alone: nothing is configured
        table = table_of({})
    np.testing.assert_array_equal(found, table)
    if how != "relative":
        assert not machine.stored(0, 3, 8).any()
    machine("release")
    machine("configuration", found)
    assert not found.any()
    machine("configure", table)
    machine("configure", np.zeros(64, np.uint8))
    machine("configuration", found)
    assert not found.any()


def test_zero(machine: Machine) -> None:
    machine.configure(dict.fromkeys(range(8), (2, 8)))
    for tile in range(8):
        machine(f"load{tile}", np.full((2, 8), tile + 1, np.uint8), 8)
    machine("zero4")
    assert [int(machine.stored(t, 2, 8)[1, 7]) for t in range(8)] == [1, 2, 3, 4, 0, 6, 7, 8]


def test_other_registers_stay(machine: Machine) -> None:
    """Vectors, masks, flags, and the 128 bytes below the stack that functions may use."""
    given = np.random.default_rng(3).integers(0, 256, 64).astype(np.uint8)
    found = np.zeros(160, np.uint8)
    machine.configure({0: (1, 4)})
    machine("kept", given, found)
    word = given[:8]
    np.testing.assert_array_equal(found[:145], [*given, *given, *word, *word, 1])


def test_threads_have_tiles_of_their_own(machine: Machine) -> None:
    turns, found = threading.Barrier(2, timeout=60), {}

    def work(mark: int) -> None:
        machine.configure({0: (4, 16 * mark)})
        machine("load0", np.full((4, 64), mark, np.uint8), 64)
        turns.wait()
        found[mark] = machine.stored(0, 4, 16 * mark)
        machine("release")
        turns.wait()

    threads = [threading.Thread(target=work, args=(mark,)) for mark in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {mark: (a.shape, set(a.ravel())) for mark, a in found.items()} == {
        1: ((4, 16), {1}),
        3: ((4, 48), {3}),
    }


def product(c: int, a: int, b: int) -> str:
    """tdpbusd, of tiles too that an assembler refuses."""
    return f"ldtilecfg (%rdi); .byte 0xc4, 0xe2, {(~b & 15) << 3 | 1}, 0x5e, {192 | c << 3 | a}"


GOOD = {0: (16, 64), 1: (16, 64), 2: (16, 64), 3: (8, 64), 4: (16, 32), 5: (16, 6), 6: (16, 6)}
ILLEGAL = {
    "nothing configured": "tilezero %tmm0",
    "no such tile": "ldtilecfg (%rdi); tilezero %tmm7",
    "stored tile": "ldtilecfg (%rdi); tilestored %tmm7, (%rdi,%rsi,1)",
    "same source": product(0, 1, 1),
    "same sum": product(0, 0, 1),
    "sum is weights": product(0, 1, 0),
    "rows of the sum": product(3, 1, 2),
    "inner": product(0, 1, 3),
    "columns": product(0, 1, 4),
    "not in fours": product(5, 1, 6),
    "sum of an eighth tile": product(0, 1, 8),
    "something else": "ud2",
    "encoded with W": "ldtilecfg (%rdi); .byte 0xc4, 0xe2, 0xe9, 0x5e, 0xc1",  # else 0, 1, 2
    "encoded with L": "ldtilecfg (%rdi); .byte 0xc4, 0xe2, 0x6d, 0x5e, 0xc1",
    "encoded far source": "ldtilecfg (%rdi); .byte 0xc4, 0xc2, 0x69, 0x5e, 0xc1",
    "encoded third": "ldtilecfg (%rdi); .byte 0xc4, 0xe2, 0x73, 0x49, 0xc0",  # else tilezero
    "encoded fourth": "ldtilecfg (%rdi); .byte 0xc4, 0xe2, 0x73, 0x4b, 0x04, 0x37",  # else a load
    "encoded zero": "ldtilecfg (%rdi); .byte 0xc4, 0xe2, 0x7b, 0x49, 0xc1",
    "encoded release": "ldtilecfg (%rdi); .byte 0xc4, 0xe2, 0x78, 0x49, 0xc1",
    "encoded configuration": "ldtilecfg (%rdi); .byte 0xc4, 0xe2, 0x78, 0x49, 0x0f",
    "resumed": "movb $1, 1(%rdi); ldtilecfg (%rdi)",
    "encoded without an index byte": "ldtilecfg (%rdi); .byte 0xc4, 0xe2, 0x7b, 0x4b, 0x07",
    "encoded eighth tile": "ldtilecfg (%rdi); .byte 0xc4, 0x62, 0x7b, 0x49, 0xc0",
}
PROTECTED = {
    "palette": table_of(GOOD, palette=2),
    "rows": table_of(GOOD | {3: (17, 64)}),
    "bytes": table_of(GOOD | {3: (16, 65)}),
    "wide": table_of(GOOD | {3: (16, 256)}),
    "rows alone": table_of(GOOD | {3: (16, 0)}),
    "bytes alone": table_of(GOOD | {3: (0, 64)}),
    **{f"byte {i}": table_of(GOOD) for i in (2, 15, 32, 47, 56, 63)},
}
for _name in [n for n in PROTECTED if n.startswith("byte ")]:
    PROTECTED[_name][int(_name[5:])] = 1
CHILD = """
import ctypes, sys
code, tiles, name, table = sys.argv[1:]
if tiles:
    assert ctypes.CDLL(tiles).qc_emulate_tiles() == 0
else:
    ctypes.CDLL(None).syscall(158, 0x1023, 18)
table = ctypes.create_string_buffer(bytes.fromhex(table), 64)
getattr(ctypes.CDLL(code), name)(table, ctypes.c_int64(0))
print("went on")
"""


PASSED_ON = """
import ctypes, faulthandler, os, signal, sys
code, tiles, how = sys.argv[1:]
library, libc = ctypes.CDLL(code), ctypes.CDLL(None)

class Action(ctypes.Structure):  # struct sigaction
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_long * 16),
                ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]

if how == "skipped":
    address = ctypes.cast(library.skip_two_bytes, ctypes.c_void_p)
    action = Action(address, flags=4)  # SA_SIGINFO
    assert libc.sigaction(signal.SIGILL, ctypes.byref(action), None) == 0
elif how == "plain":
    faulthandler.enable()
elif how == "sent":
    signal.signal(signal.SIGILL, lambda *_: print("caught"))
elif how == "sent, ignored":
    signal.signal(signal.SIGILL, signal.SIG_IGN)
assert ctypes.CDLL(tiles).qc_emulate_tiles() == 0
if how.startswith("sent"):
    os.kill(os.getpid(), signal.SIGILL)
else:
    library.something_else(None, None)
print("went on")
"""


@pytest.mark.parametrize(
    ("how", "status", "out", "err"),
    [
        ("default", -signal.SIGILL, "", ""),
        ("plain", -signal.SIGILL, "", "Fatal Python error: Illegal instruction"),
        ("skipped", 0, "went on", ""),
        ("sent", 0, "caught\nwent on", ""),
        ("sent, ignored", 0, "went on", ""),
        ("sent to nobody", -signal.SIGILL, "", ""),
    ],
)
def test_the_handler_that_was_there(
    how: str, status: int, out: str, err: str, tmp_path: Path
) -> None:
    code = {"skip two bytes": "addq $2, 168(%rdx)", "something else": "ud2"}  # the context's rip
    tiles = tmp_path / tile_registers.FILE
    tiles.write_bytes(tile_registers.compile_emulator(tmp_path))
    words = [sys.executable, "-c", PASSED_ON, str(assembled(code, tmp_path)), str(tiles), how]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (status, out), done.stderr
    assert err in done.stderr


@pytest.fixture(scope="module")
def illegal(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The beginning of a command that runs code in a process of its own."""
    folder = tmp_path_factory.mktemp("illegal")
    code = assembled(ILLEGAL | {"configure": BASIC["configure"]}, folder)
    tiles = ""
    if missing_features(load("x86-amx")):
        (folder / tile_registers.FILE).write_bytes(tile_registers.compile_emulator(folder))
        tiles = str(folder / tile_registers.FILE)
    return [sys.executable, "-c", CHILD, str(code), tiles]


def run(command: Sequence[str], name: str, table: Array) -> tuple[int, str]:
    words = [*command, name.replace(" ", "_"), table.tobytes().hex()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", ILLEGAL)
def test_illegal(name: str, illegal: list[str]) -> None:
    if name == "resumed" and not missing_features(load("x86-amx")):
        pytest.skip("this cpu resumes loads, as the emulator does not")
    assert run(illegal, name, table_of(GOOD)) == (-signal.SIGILL, "")


@pytest.mark.parametrize("name", PROTECTED)
def test_wrong_configurations(name: str, illegal: list[str]) -> None:
    assert run(illegal, "configure", table_of(GOOD)) == (0, "went on\n")
    assert run(illegal, "configure", PROTECTED[name]) == (-signal.SIGSEGV, "")
