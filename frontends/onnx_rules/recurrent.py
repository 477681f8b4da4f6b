"""Import rules for recurrent layers."""

from dataclasses import fields

from ...ir.graph import Value
from ...ir.ops.recurrent import Recurrent
from ..onnx_site import Rule, Site

_LISTS = ("activations", "activation_alpha", "activation_beta")


def recurrent(op: type[Recurrent]) -> Rule:
    """A rule for ``op``: attributes as fields."""
    flags = {f.name for f in fields(op)} & {"linear_before_reset", "input_forget"}

    def rule(site: Site) -> list[Value]:
        size = site.input(2).type.static[2]
        settings: dict[str, object] = {n: tuple(_list(site, n)) for n in _LISTS}
        settings |= {n: site.flag(n) for n in flags}
        clip = site.number("clip", 0.0) if "clip" in site.attributes else None
        made = op(
            hidden_size=site.integer("hidden_size", size),
            direction=site.text("direction", "forward"),
            clip=clip,
            layout=site.integer("layout", 0),
            **settings,  # type: ignore[arg-type]
        )
        return site.results(made, *site.inputs)

    rule.__doc__ = f"`{op.__name__}`"
    return rule


def _list(site: Site, name: str) -> list[object]:
    value = site.attributes.get(name, [])
    if not isinstance(value, list | tuple):
        raise site.error(f"attribute {name} is {value!r}, not a list")
    return list(value)
