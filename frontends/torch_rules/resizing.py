"""Import rules for interpolation of images."""

from ...ir.graph import Value
from ...ir.ops.resize import Resize
from ..onnx_site import Unsupported
from ..torch_site import Rule, Site


def upsample(mode: str, coordinates: str = "half_pixel", nearest: str = "floor") -> Rule:
    """Interpolation to ``output_size``, or by ``scale_factors``."""

    def rule(site: Site) -> list[Value]:
        x = site.value("input" if "input" in site.arguments else "self")
        how = "align_corners" if site.flag("align_corners") else coordinates
        space = x.type.rank - 2
        factors = _factors(site, space)
        if factors is not None:
            op = Resize(mode, (1.0, 1.0, *factors), None, how, nearest)
            return site.results(op, x)
        sizes = site.types[0].shape[2:] if site.types[0] is not None else ()
        if any(isinstance(d, str) for d in sizes):
            raise Unsupported("the size of its output is not constant")
        known = tuple(d for d in sizes if isinstance(d, int))
        return site.results(Resize(mode, None, (-1, -1, *known), how, nearest), x)

    rule.__doc__ = f"`Resize`, mode {mode}"
    return rule


def _factors(site: Site, space: int) -> tuple[float, ...] | None:
    """The scales that were asked for; where corners are aligned only sizes matter."""
    given = site.arguments.get("scale_factors")
    if isinstance(given, list | tuple) and given and not site.flag("align_corners"):
        return tuple(float(f) for f in given)
    if site.flag("align_corners"):
        return None
    names = ("scales_d", "scales_h", "scales_w")[3 - space :] if space > 1 else ("scales",)
    found = [site.arguments.get(n) for n in names]
    if any(not isinstance(f, int | float) for f in found):
        return None
    return tuple(float(f) for f in found if isinstance(f, int | float))
