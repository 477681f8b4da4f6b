"""A compiled causal network that takes tokens as they come and keeps keys and values.

The states are memory of the :class:`Decoder`, which the compiled code writes in place: a step costs
what one token costs, however many came before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.errors import DataError
from ...ir.types import Array

if TYPE_CHECKING:
    from .artifact import Entry, Port

PROMPT = "_prompt"
"""Ends the names of the functions for several tokens at once."""

Ports = tuple[Sequence["Port"], Sequence["Port"]]
"""Inputs and outputs of a function."""


@dataclass(frozen=True)
class Functions:
    """The compiled functions: one token, several at once (if there is), and what they share."""

    step: Entry
    prompt: Entry | None
    ports: Ports
    prompt_ports: Ports
    states: Sequence[tuple[str, str]]
    capacity: int
    workspace: int


class _Call:
    """A function bound to its tokens, positions and outputs, and to the decoder's states."""

    def __init__(
        self, entry: Entry, ports: Ports, states: Mapping[str, Array], workspace: Array
    ) -> None:
        ins, outs = ports
        self.tokens, self.places = (np.zeros(p.shape, p.dtype) for p in ins[:2])
        self.results = {p.name: np.empty(p.shape, p.dtype) for p in outs if p.name not in states}
        kept = [states[p.name] for p in ins[2:]]
        after = [states[p.name] if p.name in states else self.results[p.name] for p in outs]
        self._arrays = [self.tokens, self.places, *kept, *after, workspace]
        self._function: Callable[..., object] = entry.function
        self._arguments = entry.arguments(self._arrays)
        self.size = self.places.shape[0]

    def __call__(self, tokens: Array, at: int) -> None:
        """Run on ``tokens`` (fewer than fit leave the rest as it was) from position ``at`` on."""
        self.tokens[:, : tokens.shape[1]] = tokens
        self.places[...] = np.arange(at, at + self.size)
        self._function(*self._arguments)


class Decoder:
    """One sequence (or a batch of equally long ones) in progress; not thread-safe.

    ``position`` is the number of tokens it has seen, of at most ``capacity``.
    """

    def __init__(self, functions: Functions) -> None:
        from .artifact import aligned

        self._functions = functions
        self.capacity = functions.capacity
        self.position = 0
        ins, outs = functions.ports
        shapes = {p.name: p for p in (*ins, *outs)}
        states: dict[str, Array] = {}
        for before, after in functions.states:
            port = shapes[before]
            memory = aligned(int(np.prod(port.shape)) * port.dtype.itemsize)
            states[before] = states[after] = memory.view(port.dtype).reshape(port.shape)
        self._states = states
        room = aligned(functions.workspace)
        self._step = _Call(functions.step, functions.ports, states, room)
        self._prompt = None
        if functions.prompt is not None:
            self._prompt = _Call(functions.prompt, functions.prompt_ports, states, room)

    @property
    def input(self) -> str:
        """The name of the network's input."""
        return self._functions.ports[0][0].name

    def reset(self) -> None:
        """Forget all tokens."""
        self.position = 0

    def feed(self, tokens: Array) -> dict[str, Array]:
        """The outputs for the next tokens ``[batch, count]``, by name, in arrays of their own.

        Several are taken together where the artifact has a function for that.  Raises
        ``DataError`` for tokens of another shape or type and where they exceed the capacity.
        """
        tokens = self._checked(tokens)
        parts: dict[str, list[Array]] = {name: [] for name in self._step.results}
        for start, count, call in self._calls(tokens.shape[1]):
            call(tokens[:, start : start + count], self.position)
            for name, result in call.results.items():
                parts[name].append(result[:, :count].copy())
            self.position += count
        return {name: np.concatenate(found, 1) for name, found in parts.items()}

    def generate(self, prompt: Array, count: int, output: str | None = None) -> Array:
        """``count`` more tokens ``[batch, count]``, each the likeliest after those before it.

        ``prompt``: the next tokens ``[batch, length]``; ``output``: which has the scores of the
        words on its last axis (default: the first).  Raises ``DataError`` as ``feed`` does.
        """
        if count < 1:
            raise DataError(f"{count} tokens to generate: it must be at least 1")
        prompt = self._checked(prompt)
        self._check_room(prompt.shape[1] + count - 1)
        name = output or next(iter(self._step.results))
        scores = self.feed(prompt)[name][:, -1]
        made = np.empty((len(scores), count), prompt.dtype)
        step = self._step
        for i in range(count):
            made[:, i] = scores.argmax(-1)
            if i + 1 < count:
                step(made[:, i : i + 1], self.position)
                self.position += 1
                scores = step.results[name][:, 0]
        return made

    def _calls(self, count: int) -> Iterator[tuple[int, int, _Call]]:
        """Which tokens go to which function.

        A last part of a prompt that is too short leaves rows of states that later tokens write
        before anything reads them.
        """
        start = 0
        while start < count:
            call, left = self._step, count - start
            if self._prompt is not None and left > 1:
                call = self._prompt if self._fits(self._prompt.size) else self._step
            size = min(call.size, left)
            yield start, size, call
            start += size

    def _fits(self, size: int) -> bool:
        return self.position + size <= self.capacity

    def _checked(self, tokens: Array) -> Array:
        """The tokens as the functions take them."""
        batch, dtype = len(self._step.tokens), self._step.tokens.dtype
        tokens = np.asarray(tokens)
        if tokens.ndim != 2 or len(tokens) != batch or not tokens.shape[1]:
            raise DataError(f"tokens are [{batch}, count], not of shape {list(tokens.shape)}")
        if tokens.dtype.kind not in "iu":
            raise DataError(f"tokens are whole numbers, not {tokens.dtype}")
        self._check_room(tokens.shape[1])
        return tokens.astype(dtype, copy=False)

    def _check_room(self, count: int) -> None:
        if self.position + count > self.capacity:
            raise DataError(
                f"{self.position + count} tokens exceed the capacity of {self.capacity}: compile "
                "with a greater --capacity, or reset the decoder"
            )


def functions_of(
    manifest: Mapping[str, Any], open_function: Callable[[str], Entry | None]
) -> Functions:
    """The functions that a manifest names; ``open_function`` opens one by the end of its name."""
    from .artifact import ports_of

    facts = manifest["decoder"]
    step, prompt = (
        (ports_of(facts[part]["inputs"]), ports_of(facts[part]["outputs"]))
        for part in ("step", "prompt")
    )
    one = open_function("")
    assert one is not None
    states = [(before, after) for before, after in facts["states"]]
    return Functions(
        one, open_function(PROMPT), step, prompt, states, facts["capacity"],
        int(manifest["workspace_bytes"]),
    )  # fmt: skip


class Whole:
    """Whole sequences by a decoder, so that it runs wherever the network that it was made of does.

    Called with arrays of the tokens, the outputs and a workspace.
    """

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._free: list[Decoder] = []

    def __call__(self, tokens: Array, *rest: Array) -> None:
        """Fill the outputs for ``tokens``."""
        try:
            decoder = self._free.pop()
        except IndexError:
            decoder = Decoder(self._functions)
        decoder.reset()
        found = decoder.feed(tokens)
        for array, result in zip(rest[:-1], found.values(), strict=True):
            array[...] = result
        self._free.append(decoder)
