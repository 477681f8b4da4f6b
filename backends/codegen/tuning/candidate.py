"""A candidate on its way to be timed: how it is compiled, what is timed, and by which program."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....targets.target import Target
from ..cuda import nvcc
from ..kernels import SCHEDULED
from ..link import compiler, tiles
from ..template import TemplateKernel
from ..worker import Compile, Job
from .checked import Checked
from .device_trial import DeviceCompile, device_trial, link_device_trials
from .trial import Trial, link_trials, make_trial


def job_of(kernel: TemplateKernel, name: str, target: Target) -> Job:
    """How it is compiled as ``name``; what a search wrote is run and compared at once."""
    if target.arch:
        return DeviceCompile(kernel, name, target.tvm(), target.arch if nvcc.nvcc() else "")
    if kernel.name == SCHEDULED:
        return Checked(kernel, name, target.tvm(), tuple(compiler(target.link)))
    return Compile(kernel, name, target.tvm())


def trial_of(kernel: TemplateKernel, result: Any, target: Target) -> Trial:
    """What is timed, from what its job returned."""
    if target.arch:
        return device_trial(kernel, result)
    return make_trial(kernel, result, target.l2)


def link_program(
    trials: Mapping[str, Trial], folder: Path, target: Target, alone: bool = False
) -> Path:
    """A program that times trials of ``target``: see measure.c.  ``folder``: for scratch files.

    ``alone``: for another machine, without shared libraries where that can be.
    """
    if target.arch:
        return link_device_trials(trials, folder, target)
    flags = [*(["-static"] if alone else []), "-DQC_PROGRAM", *tiles(target.features)]
    command = target.standalone if alone and target.standalone else target.link
    return link_trials(trials, folder, compiler(command), flags)
