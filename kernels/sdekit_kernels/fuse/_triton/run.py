"""Run a trajectory kernel on the GPU."""

from __future__ import annotations

from sdekit_kernels._gpu.launch import on_device
from sdekit_kernels.fuse._triton.build import Shape, gpu_of, kernel_of, launch_shape
from sdekit_kernels.fuse.launch import Launch

__all__ = ["run_triton"]


def run_triton(launch: Launch, shape: Shape | None = None) -> None:
    """Take n paths through N steps; see ``Launch`` for what is read and written."""
    program, draw = launch.program, launch.draw
    n, count = launch.state.shape[1], launch.steps.shape[0]
    if n == 0 or count == 0:
        return
    if shape is None:
        shape = launch_shape(program, n, gpu_of(launch.state.device))
    save = launch.slots is not None and launch.saved is not None
    with on_device(launch.state.device):
        kernel_of(program)[(-(-n // shape.block),)](
            launch.state,
            launch.steps,
            launch.constants,
            launch.paths,
            launch.bad,
            launch.slots if save else launch.bad,  # not read
            launch.saved if save else launch.state,
            n,
            count,
            draw.first_sample,
            draw.step,
            draw.key[0],
            draw.key[1],
            SAVE=save,
            PAIRS=launch.antithetic,
            BLOCK=shape.block,
            enable_fp_fusion=False,
            **shape.options,
        )
