"""The numpy reference: run a graph node by node with the meaning that its ops state."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from .errors import DataError, VerifyError, nearest
from .graph import Graph, Node, Value
from .mapped import release
from .types import Array, dtype_of

Watch = Callable[[Value, Array], None]


def evaluate(
    graph: Graph,
    inputs: Mapping[str, Array],
    names: Sequence[str] | None = None,
    watch: Watch | None = None,
) -> dict[str, Array]:
    """Values named ``names`` (default: the graph's outputs) for one feed, by name.

    ``watch`` sees every result as it is made.  An intermediate array is let go after its last use.
    Raises ``DataError`` where the feed does not fit the inputs.
    """
    check_feed(graph, inputs)
    wanted = [v.name for v in graph.outputs] if names is None else list(names)
    env: dict[str, Array] = {v.name: np.asarray(inputs[v.name]) for v in graph.inputs}
    env.update({v.name: v.data for v in graph.constants if v.data is not None})
    last = last_uses(graph, set(wanted))
    for node in graph.nodes:
        for value, array in zip(node.outputs, evaluate_node(node, env), strict=True):
            env[value.name] = array
            if watch is not None:
                watch(value, array)
        for name in last.get(id(node), ()):
            del env[name]
        for operand in node.operands:
            release(operand.data)
    return {name: env[name] for name in wanted}


def walk(
    graph: Graph, feeds: Sequence[Mapping[str, Array]]
) -> Iterator[tuple[Node, dict[str, list[Array]]]]:
    """Take several feeds through the graph side by side: every node, after it was evaluated.

    With it come the values that are alive, by name, an array per feed; constants, and what depends
    on nothing else, are left out.  Changing an entry changes what later nodes read.
    """
    known = {v.name: v.data for v in graph.constants if v.data is not None}
    found = {v.name: [np.asarray(feed[v.name]) for feed in feeds] for v in graph.inputs}
    last = last_uses(graph, set())
    for node in list(graph.nodes):
        if any(v.name in found for v in node.operands):
            results = [
                evaluate_node(
                    node,
                    {
                        v.name: found[v.name][i] if v.name in found else known[v.name]
                        for v in node.operands
                    },
                )
                for i in range(len(feeds))
            ]
            found.update(
                zip(
                    [v.name for v in node.outputs],
                    map(list, zip(*results, strict=True)),
                    strict=True,
                )
            )
        else:
            known.update(
                zip([v.name for v in node.outputs], evaluate_node(node, known), strict=True)
            )
        yield node, found
        for name in last[id(node)]:
            found.pop(name, None)
            known.pop(name, None)


def evaluate_node(node: Node, env: Mapping[str, Array]) -> list[Array]:
    """The results of one node, of the types that were inferred for it."""
    arrays = [None if v is None else env[v.name] for v in node.inputs]
    try:
        with np.errstate(all="ignore"):
            results = node.op.eval(arrays)
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise VerifyError(f"evaluating {node!r}: {error}") from error
    for value, array in zip(node.outputs, results, strict=True):
        dims = value.type.shape
        fits = len(dims) == array.ndim and all(
            not isinstance(d, int) or d == n for d, n in zip(dims, array.shape, strict=True)
        )
        if dtype_of(array) != value.type.dtype or not fits:
            raise VerifyError(f"{node!r} gave {dtype_of(array)}{list(array.shape)}")
    return results


def check_feed(graph: Graph, inputs: Mapping[str, Array]) -> None:
    """``DataError`` unless ``inputs`` has exactly the graph's inputs in shape and element type."""
    names = [v.name for v in graph.inputs]
    for name in inputs:
        if name not in names:
            raise DataError(f"the network has no input {name!r}; {nearest(name, names)}")
    for value in graph.inputs:
        if value.name not in inputs:
            raise DataError(f"input {value.name!r} ({value.type}) is missing")
        array = np.asarray(inputs[value.name])
        dims = value.type.shape
        same = array.ndim == len(dims) and all(
            not isinstance(d, int) or d == n for d, n in zip(dims, array.shape, strict=True)
        )
        if not same or dtype_of(array) != value.type.dtype:
            got = f"{dtype_of(array)}{list(array.shape)}"
            raise DataError(f"input {value.name!r} takes {value.type}, not {got}")


def last_uses(graph: Graph, keep: set[str]) -> dict[int, list[str]]:
    """Per node (by id) the values, constants aside, that nothing after it reads."""
    seen = set(keep)
    out: dict[int, list[str]] = {}
    for node in reversed(graph.nodes):
        names = dict.fromkeys(v.name for v in (*node.operands, *node.outputs) if not v.is_constant)
        out[id(node)] = [n for n in names if n not in seen]
        seen.update(names)
    return out
