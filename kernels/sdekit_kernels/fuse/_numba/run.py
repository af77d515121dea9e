"""Compile and run a trajectory kernel on the CPU."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from sdekit_kernels._cpu.parallel import run_blocks
from sdekit_kernels.cache import generated
from sdekit_kernels.fuse._numba.printer import block_rows, print_numba
from sdekit_kernels.fuse._numba.statistics import Sums, sums_of
from sdekit_kernels.fuse.launch import Launch

__all__ = ["run_numba"]

_NONE = np.empty(0, np.int32)


def run_numba(launch: Launch) -> None:
    """Take n paths through N steps; see ``Launch`` for what is read and written."""
    program, draw = launch.program, launch.draw
    n = launch.state.shape[1]
    count = launch.steps.shape[0]
    if n == 0 or count == 0:
        return
    size = block_rows(program)
    name = f"cpu_{program.key}{'_pairs' if launch.antithetic else ''}"
    run = generated(name, partial(print_numba, program, launch.antithetic)).launch
    blocks, share = -(-n // size), 1
    saved, most = _kept(launch, blocks), None
    if isinstance(saved, Sums):
        share, most = saved.share, saved.counts.shape[0]
    run_blocks(
        run,
        -(-blocks // share),
        n * count * (len(program.body) // 8 + max(len(program.noise), 1)),
        launch.state.numpy(),
        launch.steps.numpy(),
        launch.constants.numpy(),
        launch.paths.numpy(),
        launch.bad.numpy(),
        _NONE if launch.slots is None else launch.slots.numpy(),
        saved,
        n,
        share,
        np.uint64(draw.first_sample),
        np.uint32(draw.step),
        np.array(launch.keys, np.uint32),
        most=most,
    )


def _kept(launch: Launch, blocks: int) -> Any:
    """Where the states after steps with a slot go: an array, or sums and counts."""
    if launch.statistics is not None:
        return sums_of(launch.statistics, blocks)
    if launch.slots is None or launch.saved is None:
        return np.empty((1, launch.state.shape[0], 0), launch.state.numpy().dtype)
    return launch.saved.contiguous().numpy()
