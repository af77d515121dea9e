"""Run a trajectory kernel on the GPU."""

from __future__ import annotations

from typing import Any

from sdekit_kernels._gpu.launch import on_device
from sdekit_kernels.fuse._triton.build import Shape, gpu_of, kernel_of, launch_shape
from sdekit_kernels.fuse.launch import Launch
from sdekit_kernels.fuse.statistics import Group

__all__ = ["run_triton"]


def run_triton(launch: Launch, shape: Shape | None = None) -> None:
    """Take n paths through N steps; see ``Launch`` for what is read and written."""
    program, draw = launch.program, launch.draw
    n, count = launch.state.shape[1], launch.steps.shape[0]
    if n == 0 or count == 0:
        return
    if shape is None:
        gpu = gpu_of(launch.state.device)
        shape = launch_shape(program, n, gpu, sums=launch.statistics is not None)
    groups, targets = _targets(launch)
    save = launch.slots is not None and (launch.saved is not None or len(groups) > 0)
    with on_device(launch.state.device):
        kernel_of(program, groups)[(-(-n // shape.block),)](
            launch.state,
            launch.steps,
            launch.constants,
            launch.paths,
            launch.bad,
            launch.slots if save else launch.bad,  # not read
            *targets,
            n,
            count,
            draw.first_sample,
            draw.step,
            *launch.keys,
            SAVE=save,
            PAIRS=launch.antithetic,
            BLOCK=shape.block,
            enable_fp_fusion=False,
            **shape.options,
        )


def _targets(launch: Launch) -> tuple[tuple[Group, ...], tuple[Any, ...]]:
    """What is reduced, and the kernel's arguments that say where to."""
    sums = launch.statistics
    if sums is None:
        return (), (launch.state if launch.saved is None else launch.saved,)
    sizes = (sums.at.shape[1], sums.bins, sums.counts.shape[0], int(sums.last))
    return sums.groups, (sums.at, sums.moments, sums.counts, *sizes)
