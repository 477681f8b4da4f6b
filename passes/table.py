"""The one table of passes: name -> where it lives.  Plugins use entry points ``qc.passes``."""

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from importlib.metadata import entry_points

from ..ir.errors import PreconditionError, nearest
from .base import Pass

PASSES: dict[str, str] = {
    "adopt-codes": "adopt_codes:AdoptCodes",
    "allocate-bits": "allocate_bits:AllocateBits",
    "calibrate": "calibrate:Calibrate",
    "canonicalize": "canonicalize:Canonicalize",
    "choose-precision": "choose_precision:ChoosePrecision",
    "compensate-low-rank": "compensate_low_rank:CompensateLowRank",
    "encode": "encode:EncodeFormats",
    "equalize": "equalize:Equalize",
    "fold-batchnorm": "fold_batchnorm:FoldBatchNorm",
    "fold-dynamic": "fold_dynamic:FoldDynamic",
    "fold-integers": "fold_integers:FoldIntegers",
    "prune-channels": "prune_channels:PruneChannels",
    "quantize": "quantize:QuantizeStatic",
    "quantize-dynamic": "quantize_dynamic:QuantizeDynamic",
    "recalibrate-batchnorm": "recalibrate_batchnorm:RecalibrateBatchNorm",
    "reorder": "reorder:Reorder",
    "rotate": "rotate:Rotate",
    "split-layers": "split_layers:SplitLayers",
}


def pass_names() -> list[str]:
    """Names of all passes, plugins included."""
    return sorted({*PASSES, *(e.name for e in entry_points(group="qc.passes"))})


def pass_class(name: str) -> type[Pass]:
    """The class of a pass.  ``PreconditionError`` names the nearest for an unknown one."""
    plugins = {e.name: e for e in entry_points(group="qc.passes")}
    if clash := sorted(set(plugins) & set(PASSES)):
        raise PreconditionError(f"plugin {plugins[clash[0]].value} redefines pass {clash[0]!r}")
    if name in plugins:
        return plugins[name].load()  # type: ignore[no-any-return]
    if name not in PASSES:
        raise PreconditionError(f"there is no pass {name!r}; {nearest(name, pass_names())}")
    module, _, cls = PASSES[name].partition(":")
    return getattr(import_module(f".{module}", __package__), cls)  # type: ignore[no-any-return]


def make_pass(name: str, options: Mapping[str, object]) -> Pass:
    """A pass with options, converted to the types of its fields.

    ``PreconditionError`` names unknown options (and the nearest) and values of the wrong type.
    """
    cls = pass_class(name)
    known = {f.name: f.default for f in fields(cls)}
    given: dict[str, object] = {}
    for key, value in options.items():
        field = key.replace("-", "_")
        if field not in known:
            raise PreconditionError(f"pass {name} has no option {key!r}; {nearest(field, known)}")
        given[field] = _convert(f"{name}.{key}", value, known[field])
    return cls(**given)


def _convert(where: str, value: object, default: object) -> object:
    """``value`` (perhaps a string from the command line) as the type of ``default``.

    A default of None stands for a number that is not given.
    """
    try:
        if default is None:
            return float(str(value))
        if isinstance(default, bool):
            if str(value).lower() not in ("true", "false", "1", "0"):
                raise ValueError("expected true or false")
            return str(value).lower() in ("true", "1")
        if isinstance(default, int | float):
            return type(default)(str(value))
        return str(value) if isinstance(default, str) else value
    except (TypeError, ValueError) as error:
        kind = "number" if default is None else type(default).__name__
        raise PreconditionError(f"option {where} takes a {kind}, not {value!r}") from error
