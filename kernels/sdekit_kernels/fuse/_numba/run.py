"""Compile and run a trajectory kernel on the CPU."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from sdekit_kernels._cpu.parallel import run_blocks
from sdekit_kernels.cache import module_from_source
from sdekit_kernels.fuse._numba.printer import block_rows, print_numba
from sdekit_kernels.fuse.launch import Launch
from sdekit_kernels.fuse.program import Program

__all__ = ["run_numba"]

_NONE = np.empty(0, np.int32)


@lru_cache(maxsize=512)
def _launcher(key: str, antithetic: bool, program: _ByKey) -> Any:
    source = print_numba(program.program, antithetic)
    return module_from_source(f"cpu_{key}{'_pairs' if antithetic else ''}", source).launch


class _ByKey:
    """A program that compares by its key, so that the cache of launchers holds no parameters."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByKey)

    def __hash__(self) -> int:
        return 0


def run_numba(launch: Launch) -> None:
    """Take n paths through N steps; see ``Launch`` for what is read and written."""
    program, draw = launch.program, launch.draw
    n = launch.state.shape[1]
    count = launch.steps.shape[0]
    if n == 0 or count == 0:
        return
    size = block_rows(program)
    run = _launcher(program.key, launch.antithetic, _ByKey(program))
    saved = launch.saved
    if launch.slots is None or saved is None:
        saved = launch.state[None, :, :0]
    run_blocks(
        run,
        -(-n // size),
        n * count * (len(program.body) // 8 + max(len(program.noise), 1)),
        launch.state.numpy(),
        launch.steps.numpy(),
        launch.constants.numpy(),
        launch.paths.numpy(),
        launch.bad.numpy(),
        _NONE if launch.slots is None else launch.slots.numpy(),
        saved.contiguous().numpy(),
        n,
        np.uint64(draw.first_sample),
        np.uint32(draw.step),
        np.uint32(draw.key[0]),
        np.uint32(draw.key[1]),
    )
