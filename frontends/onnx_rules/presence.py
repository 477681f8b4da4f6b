"""Import rules for optional tensors, whose presence the file says, and for strings."""

import numpy as np

from ...ir.graph import Value
from ...ir.ops.strings import StringNormalizer
from ..onnx_site import Site


def optional_has_element(site: Site) -> list[Value]:
    """OptionalHasElement: whether there is an operand."""
    return [site.constant(np.asarray(site.optional(0) is not None))]


def optional_get_element(site: Site) -> list[Value]:
    """OptionalGetElement: no node at all."""
    return [site.input(0)]


def string_normalizer(site: Site) -> list[Value]:
    """`StringNormalizer`"""
    words = site.attributes.get("stopwords", [])
    if not isinstance(words, list | tuple):
        raise site.error(f"attribute stopwords is {words!r}, not a list")
    op = StringNormalizer(
        site.text("case_change_action", "NONE"),
        site.flag("is_case_sensitive"),
        tuple(str(w) for w in words),
    )
    return site.results(op, site.input(0))
