"""Import rules for reductions, sorting and Einsum."""

from ...ir.graph import Value
from ...ir.ops.late import Late
from ...ir.ops.reduce import CumProd, CumSum, Einsum, Reduce, TopK
from ..onnx_site import Rule, Site


def reduction(op: type[Reduce], operand_since: int = 18) -> Rule:
    """A rule for ``op``, whose axes are an operand since opset ``operand_since``."""

    def rule(site: Site) -> list[Value]:
        x = site.input(0)
        late = site.optional(1) if site.opset >= operand_since else None
        if late is not None and site.builder.static(late) is None:
            keep = site.flag("noop_with_empty_axes")
            return site.results(
                Late(op(None, site.flag("keepdims", True)), ("axes",), keep), x, late
            )
        axes = site.ints("axes") if late is None else site.static_ints(1, "the axes")
        if not axes and site.flag("noop_with_empty_axes"):
            return [x]
        return site.results(op(axes or None, site.flag("keepdims", True)), x)

    rule.__doc__ = f"`{op.__name__}`; the axes are an operand since opset {operand_since}"
    return rule


def cum_sum(site: Site) -> list[Value]:
    """CumSum."""
    op = CumSum(0, site.flag("exclusive"), site.flag("reverse"))
    return site.late(op, {"axis": site.input(1)}, site.input(0))


def cum_prod(site: Site) -> list[Value]:
    """CumProd."""
    op = CumProd(0, site.flag("exclusive"), site.flag("reverse"))
    return site.late(op, {"axis": site.input(1)}, site.input(0))


def top_k(site: Site) -> list[Value]:
    """TopK; ``k`` is an operand since opset 10."""
    op = TopK(
        site.integer("k", 1),
        site.integer("axis", -1),
        site.flag("largest", True),
        site.flag("sorted", True),
    )
    return site.late(op, {"k": None if site.opset < 10 else site.input(1)}, site.input(0))


def einsum(site: Site) -> list[Value]:
    """Einsum with ellipses and the result's axes spelled out."""
    left, arrow, right = site.text("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    used = set(left + right)
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in used]
    spans = [
        site.input(i).type.rank - len(t.replace("...", ""))
        for i, t in enumerate(terms)
        if "..." in t
    ]
    widest = "".join(free[: max(spans, default=0)])
    for i, term in enumerate(terms):
        span = site.input(i).type.rank - len(term.replace("...", ""))
        terms[i] = term.replace("...", widest[len(widest) - span :] if span else "")
    if not arrow:
        letters = "".join(terms)
        once = sorted(c for c in set(letters) if letters.count(c) == 1 and c not in widest)
        right = "..." * bool(spans) + "".join(once)
    return site.results(Einsum(f"{','.join(terms)}->{right.replace('...', widest)}"), *site.inputs)
