"""An unpacked 64-bit ARM Debian with Python and wheels, for qemu-user: no root rights needed.

    python tests/arm_root.py /tmp/arm onnxruntime==1.31.1 numpy==2.4.6 flatbuffers \\
        packaging protobuf

About 40 packages (16 MB) and the wheels, a few seconds.  Run programs in it with
``qemu-aarch64 -L /tmp/arm /tmp/arm/usr/bin/python3`` and ``PYTHONHOME=/tmp/arm/usr``; the wheels
lie in ``/tmp/arm/site``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
PLAIN = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
DOT = f"{PLAIN} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
CPUS = {
    "cortex-a53": ("0xd03", PLAIN),
    "cortex-a76": ("0xd0b", DOT),
    "max": ("0xd49", f"{DOT} i8mm bf16"),
}
"""Part number and features of cpus that qemu emulates (for `max` those of a Neoverse N2)."""


def describe_cpu(root: Path, cpu: str) -> None:
    """What libraries that look for the cpu's features want to read.

    qemu shows the machine beneath, and on the flags of an x86 they crash.
    """
    part, features = CPUS[cpu]
    lines = (
        f"Features\t: {features}", "CPU implementer\t: 0x41", "CPU architecture: 8",
        "CPU variant\t: 0x3", f"CPU part\t: {part}", "CPU revision\t: 1",
    )  # fmt: skip
    text = "".join("\n".join((f"processor\t: {i}", *lines, "", "")) for i in range(2))
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(text)


def unpack(root: Path) -> None:
    """Debian's packages for arm64 into ``root``, by an apt of its own."""
    state = root / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    options = {
        "APT::Architecture": "arm64", "APT::Architectures::": "arm64",
        "Dir::State::lists": state / "lists", "Dir::Cache": state / "cache",
        "Dir::State::status": state / "status", "APT::Install-Recommends": "false",
        "Debug::NoLocking": "1", "APT::Sandbox::User": "root",
    }  # fmt: skip
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
    run([*apt, "update"])
    run([*apt, "install", "--download-only", "-y", *PACKAGES])
    for package in sorted((state / "cache" / "archives").glob("*.deb")):
        run(["dpkg", "-x", str(package), str(root)])
    describe_cpu(root, "cortex-a76")
    cpus = root / "sys" / "devices" / "system" / "cpu"
    cpus.mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present"):
        (cpus / name).write_text("0-1\n")


def install(root: Path, wheels: Sequence[str]) -> None:
    """Wheels for ARM and the root's Python into ``root/site``."""
    python = next((root / "usr" / "bin").glob("python3.[0-9]*")).name.removeprefix("python")
    folder = root / "wheels"
    platforms = [f"--platform={p}" for p in PLATFORMS]
    run([sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--no-deps",
         *platforms, f"--python-version={python}", "-d", str(folder), *wheels])  # fmt: skip
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root / "site")


def run(command: Sequence[str]) -> None:
    """Run a command; exits with its last line where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        sys.exit(f"{command[0]}: {last}")


def main() -> int:
    """Unpack, install, try."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("root", type=Path)
    top.add_argument("wheels", nargs="*")
    args = top.parse_args()
    root = args.root.resolve()
    unpack(root)
    if args.wheels:
        install(root, args.wheels)
    python = ["qemu-aarch64", "-L", str(root), str(root / "usr" / "bin" / "python3")]
    env = {**os.environ, "PYTHONHOME": str(root / "usr")}
    found = subprocess.run([*python, "--version"], env=env, check=True, capture_output=True)
    print(f"{root}: {found.stdout.decode().strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
