"""Nodes that are one op of ours, attribute by attribute."""

from dataclasses import fields

from ...ir.graph import Value
from ...ir.ops.base import Op
from ..onnx_site import Rule, Site


def direct(op: type[Op], names: dict[str, str] | None = None, results: int = 1) -> Rule:
    """A rule for a node that is ``op``.

    Attributes have the names of the fields, except those in ``names`` (ONNX name -> field).
    """
    renamed = {field: attribute for attribute, field in (names or {}).items()}
    known = {f.name: (renamed.get(f.name, f.name), f.default) for f in fields(op)}

    def rule(site: Site) -> list[Value]:
        site.only(results, f"only the first {results} of its results are supported")
        given = {
            field: _value(site, attribute, default)
            for field, (attribute, default) in known.items()
            if attribute in site.attributes
        }
        return site.results(op(**given), *site.inputs)

    rule.__doc__ = f"`{op.__name__}`"
    return rule


def _value(site: Site, attribute: str, default: object) -> object:
    if isinstance(default, bool):
        return site.flag(attribute)
    if isinstance(default, float):
        return site.number(attribute, default)
    if isinstance(default, int):
        return site.integer(attribute, default)
    if isinstance(default, str):
        return site.text(attribute, default)
    return site.ints(attribute)
