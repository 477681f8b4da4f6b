"""Instruction set features and the cpus that have them, under LLVM's names.

``CPUS`` lists, for every cpu a target may name, all features that LLVM may use when it compiles for
that cpu (vector instructions and bit counting; those that it never emits unasked are left out).
Sources: LLVM's ``X86TargetParser.cpp`` and ``AArch64Processors.td``.
"""

Features = frozenset[str]

IMPLIES: dict[str, tuple[str, ...]] = {
    "sse2": (),
    "ssse3": ("sse2",),
    "sse4.1": ("ssse3",),
    "sse4.2": ("sse4.1",),
    "popcnt": (),
    "lzcnt": (),
    "movbe": (),
    "bmi": (),
    "bmi2": (),
    "avx": ("sse4.2",),
    "f16c": ("avx",),
    "fma": ("avx",),
    "avx2": ("avx",),
    "avxvnni": ("avx2",),
    "gfni": ("sse2",),
    "vaes": ("avx2",),
    "vpclmulqdq": ("avx",),
    "avx512f": ("avx2", "fma", "f16c"),
    "avx512cd": ("avx512f",),
    "avx512dq": ("avx512f",),
    "avx512bw": ("avx512f",),
    "avx512vl": ("avx512f",),
    "avx512vnni": ("avx512f",),
    "avx512vbmi": ("avx512bw",),
    "avx512vbmi2": ("avx512bw",),
    "avx512ifma": ("avx512f",),
    "avx512bitalg": ("avx512bw",),
    "avx512vpopcntdq": ("avx512f",),
    "avx512bf16": ("avx512bw",),
    "avx512fp16": ("avx512bw", "avx512dq", "avx512vl"),
    "amx-tile": (),
    "amx-int8": ("amx-tile",),
    "amx-bf16": ("amx-tile",),
    "neon": (),
    "vfp4": ("neon",),
    "dotprod": ("neon",),
    "i8mm": ("neon",),
    "fullfp16": ("neon",),
    "bf16": ("neon",),
    "sve": ("neon",),
    "sve2": ("sve",),
    "dp4a": (),
    "imma": ("dp4a",),
}
"""Every feature, with those that it is built on."""

X86: Features = frozenset(list(IMPLIES)[: list(IMPLIES).index("neon")])
ARM: Features = frozenset(["neon", "vfp4", "dotprod", "i8mm", "fullfp16", "bf16", "sve", "sve2"])
CUDA: Features = frozenset(["dp4a", "imma"])

_V1 = frozenset(["sse2"])
_V2 = _V1 | {"ssse3", "sse4.1", "sse4.2", "popcnt"}
_V3 = _V2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"}
_V4 = _V3 | {"avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl"}
_CASCADE = _V4 | {"avx512vnni"}
_CRYPTO = frozenset(["gfni", "vaes", "vpclmulqdq"])
_ICE = _CASCADE | _CRYPTO | {
    "avx512vbmi", "avx512vbmi2", "avx512ifma", "avx512bitalg", "avx512vpopcntdq",
}  # fmt: skip
_SAPPHIRE = _ICE | {
    "avx512bf16", "avx512fp16", "avxvnni", "amx-tile", "amx-int8", "amx-bf16",
}  # fmt: skip
_NEON = frozenset(["neon"])
_A76 = _NEON | {"dotprod", "fullfp16"}
_N2 = _A76 | {"i8mm", "bf16", "sve", "sve2"}

CPUS: dict[str, Features] = {
    "x86-64": _V1,
    "x86-64-v2": _V2,
    "x86-64-v3": _V3,
    "x86-64-v4": _V4,
    "haswell": _V3,
    "broadwell": _V3,
    "skylake": _V3,
    "skylake-avx512": _V4,
    "cascadelake": _CASCADE,
    "cooperlake": _CASCADE | {"avx512bf16"},
    "icelake-client": _ICE,
    "icelake-server": _ICE,
    "tigerlake": _ICE,
    "alderlake": _V3 | _CRYPTO | {"avxvnni"},
    "sapphirerapids": _SAPPHIRE,
    "znver1": _V3,
    "znver2": _V3,
    "znver3": _V3 | {"vaes", "vpclmulqdq"},
    "znver4": _ICE | {"avx512bf16"},
    "znver5": _ICE | {"avx512bf16", "avxvnni"},
    "cortex-a7": _NEON | {"vfp4"},  # 64-bit cores have its instructions under no name
    "cortex-a53": _NEON,
    "cortex-a72": _NEON,
    "cortex-a55": _A76,
    "cortex-a76": _A76,
    "cortex-a78": _A76,
    "cortex-a510": _N2,
    "cortex-a710": _N2,
    "neoverse-n1": _A76,
    "neoverse-v1": _A76 | {"i8mm", "bf16", "sve"},
    "neoverse-n2": _N2,
    "neoverse-v2": _N2,
}

UNUSED: dict[str, Features] = {
    "sapphirerapids": frozenset(["avx512fp16", "avx512bf16", "avxvnni", "amx-bf16"]),
}
"""What LLVM is told not to use though a cpu has it: kernels gain nothing, and cpus that have all
the rest can emulate the cpu's tiles."""

TILES: Features = frozenset(["amx-tile", "amx-int8"])
"""What a cpu that has all else emulates."""

HOST_X86 = (
    "sapphirerapids",
    "icelake-server",
    "cascadelake",
    "skylake-avx512",
    "alderlake",
    "haswell",
    "x86-64-v2",
    "x86-64",
)
"""What a host may be compiled for, best first: the first whose features are all there."""

HOST_ARM = ("neoverse-n2", "neoverse-v1", "cortex-a76", "cortex-a53")
