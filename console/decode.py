"""``qc generate``: a decoder continues a sequence of tokens."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from ..ir.errors import DataError, nearest
from .commands import save_arrays, set_up_log, write_json

if TYPE_CHECKING:
    from ..ir.types import Array


def do_generate(args: Namespace) -> int:
    """``qc generate``."""
    from ..backends.codegen.artifact import Artifact

    set_up_log(args.debug)
    decoder = Artifact.load(args.artifact, args.threads).decoder()
    prompt = _prompt(args.prompt, decoder.input)
    room = decoder.capacity - prompt.shape[1] + 1
    count = room if args.count is None else args.count
    if count < 1 and args.count is not None:
        raise DataError(f"--count {count} must be at least 1")
    if count < 1:
        raise DataError(
            f"the prompt of {prompt.shape[1]} tokens exceeds the capacity {decoder.capacity}"
        )
    decoder.feed(prompt[:, :1])  # what is loaded when it is first used is loaded
    decoder.reset()
    started = perf_counter()
    tokens = decoder.generate(prompt, count)
    seconds = perf_counter() - started
    if args.json != "-":
        for row in tokens:
            print(" ".join(map(str, row)))
        print(f"{count} tokens after {prompt.shape[1]} in {1e3 * seconds:.1f} ms")
    if args.output:
        save_arrays(args.output, {"tokens": tokens})
    write_json(
        args.json,
        {"tokens": tokens.tolist(), "prompt": prompt.shape[1], "seconds": seconds},
    )
    return 0


def _prompt(text: str, name: str) -> Array:
    """Tokens ``[batch, length]`` as they are written, or of an .npz file."""
    import numpy as np

    from ..data.npz import NpzFile

    if not text.endswith(".npz"):
        try:
            return np.array([[int(word) for word in text.split(",")]], np.int64)
        except ValueError as error:
            raise DataError(f"--prompt {text!r} is neither 1,403,407 nor an .npz file") from error
    members = NpzFile(Path(text)).members
    if name not in members:
        raise DataError(f"{text!r} has no array {name!r}, the input; {nearest(name, members)}")
    member = members[name]
    if len(member.shape) != 2:
        raise DataError(f"{text!r}: {name!r} is [batch, length], not of shape {member.shape}")
    return next(member.blocks(max(member.rows, 1)))
