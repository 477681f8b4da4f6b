"""What the report of a compilation says to people beside its tables."""

from __future__ import annotations

from collections.abc import Sequence

from ..job import Job
from ..passes.ledger import Row
from ..passes.recipe import Recipe, default_recipe
from ..targets import Target, missing_features
from .report import Facts


def notes_on_recipe(job: Job, recipe: Recipe) -> list[str]:
    """What follows from a recipe that nobody asked for by name."""
    if job.recipe is None and recipe.name == default_recipe(False, quantized=True):
        return [
            f"The network is quantized already; its own codes were kept (recipe {recipe.name!r}). "
            "Give --recipe NAME for others."
        ]
    if job.calibration is None and job.recipe is None:
        return [
            "No calibration data was given, so nothing about activations was made up: they are "
            f"quantized at run time (recipe {recipe.name!r}). Give --calib DATA for static ones."
        ]
    return []


def notes_on_bits(ledger: Sequence[Row]) -> list[str]:
    """What was tried to keep an accuracy, and whether it is kept."""
    found = [row.statistics for row in ledger if "tried" in row.statistics]
    return [
        f"The accuracy is {facts['accuracy']} (a drop of {facts['drop']} points, "
        f"{facts['allowed']} allowed) with {facts.get('weights_bits', 8)} bits a weight and "
        f"{facts.get('activations_bits', 8)} an activation on average, {facts['float']} layers "
        f"left in float. Tried: {facts['tried']}."
        for facts in found
    ]


def notes_on_code(manifest: Facts, target: Target) -> list[str]:
    """That there is no code, and why; what code was checked on where its device is missing."""
    from ..backends.codegen.reference import KEY, reason

    formats, facts = manifest.get(KEY), manifest.get("cuda")
    if isinstance(formats, list):
        return [f"No code was generated. {reason(formats)}."]
    if target.has("amx-int8") and target.emulated:
        return ["This cpu lacks AMX's tiles: code was checked on emulated ones, nothing timed."]
    if not isinstance(facts, dict):
        return []
    where = "emulated, since no such device is here" if missing_features(target) else "on a device"
    return [
        f"The kernels for {facts['arch']}: {facts['code']}; here they run {where}.",
        "No region was weighed against float: choose-precision knows no times of a GPU. Tiles that "
        "nobody measured (qc tune) follow an estimate.",
    ]
