"""Run a traced step over many steps: the one entry to the trajectory kernels."""

from __future__ import annotations

from sdekit_kernels.dispatch import resolve_backend
from sdekit_kernels.fuse.launch import Launch
from sdekit_kernels.fuse.program import Program

__all__ = ["kernel_source", "run_trajectory"]


def run_trajectory(launch: Launch, backend: str = "auto") -> None:
    """Take n paths through N steps; see ``Launch`` for what is read and written.

    Raises RuntimeError for a backend that cannot run on these tensors, or has no such kernels.
    """
    choice = resolve_backend(backend, launch.state.device)
    if choice.backend == "numba":
        from sdekit_kernels.fuse._numba.run import run_numba

        run_numba(launch)
    elif choice.backend == "triton":
        from sdekit_kernels.fuse._triton.run import run_triton

        run_triton(launch)
    else:
        raise RuntimeError("backend 'torch' has no trajectory kernels: run step by step")


def kernel_source(program: Program, backend: str, antithetic: bool = False) -> str:
    """The generated kernel, to read. backend: "numba" or "triton"."""
    if backend == "numba":
        from sdekit_kernels.fuse._numba.printer import print_numba

        return print_numba(program, antithetic)
    from sdekit_kernels.fuse._triton.printer import print_triton

    return print_triton(program)
