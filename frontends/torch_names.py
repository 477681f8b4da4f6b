"""Names in an exported program: paths of modules, the class, the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node as Call


def path_of(call: Call) -> str:
    """The path of the innermost module: ``layers.3.mixer.conv1d``."""
    stack = list((call.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).partition("@")[0] if stack else ""


def title_of(calls: Sequence[Call]) -> str:
    """The name of the outermost class."""
    for call in calls:
        stack = list((call.meta.get("nn_module_stack") or {}).values())
        if stack:
            kind = stack[0][1]
            return str(kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]
    return "graph"


def output_names(program: ExportedProgram) -> list[str]:
    """``output``, ``output_0``, or the keys under which ``forward`` returns tensors."""
    from torch.utils import _pytree as pytree

    spec = program.call_spec.out_spec
    count = len(program.graph_signature.output_specs)
    if spec is None:
        return [f"output_{i}" for i in range(count)]
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    keys, _ = pytree.tree_flatten_with_path(tree)
    names = ["_".join(_key(k) for k in path) for path, _ in keys]
    return [n if n and not n[0].isdigit() else f"output{'_' * bool(n)}{n}" for n in names]


def _key(entry: object) -> str:
    for name in ("key", "idx", "name"):
        if hasattr(entry, name):
            return str(getattr(entry, name))
    return str(entry)
