"""The innermost loops of single operators, by a model of a cpu that need not be at hand.

    python benchmarks/inner_loops.py                              # x86-vnni on Sapphire Rapids
    python benchmarks/inner_loops.py --target x86 --cpu znver3

Needs objdump and llvm-mca (Debian: binutils, llvm-19).  The operators of operators.py are compiled,
untuned; of every one the loop with most products is given to llvm-mca, which says how many cycles
a turn takes if all it reads is in the first cache.  `of peak` is how many the products alone would
take, over that; `other` are the instructions that are no products, of which such a cpu starts up to
six each cycle.  What lies around the loop, and all caches behind the first, it does not see.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import setting
from operators import OPERATORS, Operator

from qc import api

PRODUCTS = re.compile(r"\t(vpdpbusd|vpmaddwd|vpmaddubsw)\b")
ADDRESS = re.compile(r"\s+([0-9a-f]+):\t")
JUMP = re.compile(r"\tj\w+\s+([0-9a-f]+)\b")
TURNS = 200
HEADERS = ("operator", "products", "other", "cycles", "of peak")


def innermost(library: Path) -> Iterator[list[str]]:
    """Lines of disassembly of each loop that holds no other."""
    command = ["objdump", "-d", "--no-show-raw-insn", "-M", "intel", str(library)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for function in text.split("\n\n"):
        lines = [line for line in function.splitlines() if ADDRESS.match(line)]
        at = {m[1]: i for i, line in enumerate(lines) if (m := ADDRESS.match(line))}
        loops = [
            (at[m[1]], i) for i, line in enumerate(lines)
            if (m := JUMP.search(line)) and at.get(m[1], i + 1) <= i
        ]  # fmt: skip
        for start, stop in loops:
            if not any(start <= a and b <= stop and (a, b) != (start, stop) for a, b in loops):
                yield lines[start : stop + 1]


def cycles(instructions: Sequence[str], cpu: str) -> float:
    """Of one turn, by llvm-mca."""
    text = "\n".join([".intel_syntax noprefix", "top:", *instructions, ""])
    command = ["llvm-mca-19", "-mtriple=x86_64", f"-mcpu={cpu}", f"-iterations={TURNS}"]
    found = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    total = re.search(r"Total Cycles:\s+(\d+)", found)
    assert total is not None
    return int(total[1]) / TURNS


def assembly(line: str) -> str:
    """An instruction as llvm reads it."""
    text = re.split(r"[#<]", line.split("\t", 1)[1])[0].strip()
    return re.sub(r"^(j\w+)\s.*", r"\1 top", text)


def row(operator: Operator, target: str, cpu: str, folder: Path) -> list[object]:
    """One line of the table."""
    onnx.save(operator.ours().proto, str(folder / "operator.onnx"))
    api.compile_to_directory(api.Job(folder / "operator.onnx", target), folder / "out")
    loops = innermost(folder / "out" / "lib.so")
    body = max(loops, key=lambda lines: sum(map(bool, map(PRODUCTS.search, lines))))
    products = [line for line in body if PRODUCTS.search(line)]
    if not products:
        return [operator.name, 0, len(body), None, None]
    kind = products[0].split("\t")[1].split()[0]
    width = re.findall(r"[xyz]mm", products[0])[0]
    alone = [f"{kind} {width}{i}, {width}14, {width}15" for i in range(12)]
    least = cycles(alone, cpu) / len(alone) * len(products)
    whole = cycles([assembly(line) for line in body], cpu)
    return [operator.name, len(products), len(body) - len(products), whole, least / whole]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--target", default="x86-vnni")
    top.add_argument("--cpu", default="sapphirerapids", help="as llvm-mca calls it")
    args = top.parse_args(argv)
    rows = []
    for operator in OPERATORS:
        with tempfile.TemporaryDirectory(prefix="qc-loops-") as folder:
            rows.append(row(operator, args.target, args.cpu, Path(folder)))
    print(setting.markdown(HEADERS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
