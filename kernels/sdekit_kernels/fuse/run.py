"""Run a traced step over many steps: the one entry to the trajectory kernels."""

from __future__ import annotations

from collections.abc import Iterator

from sdekit_kernels.dispatch import resolve_backend
from sdekit_kernels.fuse.graph import Node
from sdekit_kernels.fuse.launch import Launch
from sdekit_kernels.fuse.program import Program

__all__ = ["kernel_obstacle", "kernel_source", "run_trajectory"]


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


def kernel_obstacle(program: Program, backend: str) -> str:
    """Nothing, or why the backend's kernels do not take this program, as words for the user."""
    if backend != "triton":
        return ""
    from sdekit_kernels.fuse._triton.build import fits

    return fits(program)


def kernel_source(program: Program, backend: str, antithetic: bool = False) -> str:
    """The generated kernel under a legend of its columns. backend: "numba" or "triton"."""
    if backend == "numba":
        from sdekit_kernels.fuse._numba.printer import print_numba

        source = print_numba(program, antithetic)
    else:
        from sdekit_kernels.fuse._triton.printer import print_triton

        source = print_triton(program)
    return "\n".join([*_legend(program), source])


def _legend(program: Program) -> Iterator[str]:
    """What the arguments of the kernel are, in this solve."""
    yield "# x: state before the step, y: after it, z: normals, v: results."
    for prefix, what, nodes in (
        ("u", "one number a step", program.steps),
        ("c", "one number in all", program.constants),
    ):
        for j, node in enumerate(nodes):
            yield f"# {prefix}{j} ({what}) = {_formula(node)}"
    for j, (slot, entry) in enumerate(program.path_parameters):
        yield f"# p{j} (one number a path) = entry {entry} of parameter {slot}"


def _formula(node: Node, room: int = 120) -> str:
    """An expression that is not the path's, as text of some length."""
    if node.op == "literal":
        return repr(node.value)
    if node.op == "time":
        return str(node.value[0])
    if node.op == "parameter":
        slot, entry = node.value
        return f"parameter {slot}[{entry}]"
    if room < 0:
        return "..."
    inside = [_formula(a, (room - 10) // len(node.args)) for a in node.args]
    if node.op in _INFIX:
        return f"({inside[0]} {_INFIX[node.op]} {inside[1]})"
    return f"{node.op}({', '.join(inside)})"


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
