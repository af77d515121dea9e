"""Which way a solve goes, by stated conditions, and the words that say why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from sdekit_kernels.checks import check_float_tensor
from sdekit_kernels.dispatch import compute_dtype, resolve_backend
from sdekit_kernels.tracing import transformed
from torch import Tensor

from sdekit.solve.functionals import Functional
from sdekit.solve.solution import Path
from sdekit.solve.transition import OwnTimes, Transition
from sdekit.solvers import Equation, get_solver

__all__ = ["check_functionals", "check_state", "choose_path", "explain"]


def explain(
    sde: Any,
    method: str = "euler_maruyama",
    *,
    x0: Tensor | None = None,
    device: torch.device | str = "cpu",
    backend: str = "auto",
    fuse: bool | None = None,
    source: bool = False,
    **options: Any,
) -> Path:
    """Which path a solve of this equation will take, and why; printed, it reads as a sentence.

    Where the whole trajectory cannot be one kernel, the reason names the operation and its line in
    the equation, and what to write instead.

    Args:
        x0: the initial states that would be solved from; without them the equation is tried on
            states of 1, 2, 3 ... components until its drift takes one.
        source: put the kernel's generated source into ``Path.source``.
        options: ``functionals``, ``stop`` and ``antithetic``, as for ``solve``.

    Raises as ``solve`` for an unknown method, equation or backend.
    """
    equation = Equation(sde)
    if x0 is not None:
        check_state(x0)
    x = _example(equation, torch.device(device)) if x0 is None else x0
    zero = torch.zeros((), device=device if x is None else x.device)
    solver, took = get_solver(method, equation, None if x is None else (zero, x))
    if x is None:
        reason = "the drift takes no state of 1 to 64 components: give x0="
        return Path("torch", resolve_backend(backend, torch.device(device)).backend, reason)
    functionals = options.pop("functionals", None)
    stop, antithetic = options.pop("stop", None), bool(options.pop("antithetic", False))
    if options:
        raise TypeError(f"explain takes no argument {next(iter(options))!r}")
    check_functionals(functionals, stop)
    transition = Transition(equation, solver, functionals or {}, stop)
    start = zero.to(compute_dtype(x.dtype))
    path, program = choose_path(transition, x, start, None, backend, fuse, antithetic)
    path = path._replace(reason=took + path.reason)
    if source and program is not None:
        from sdekit_kernels.fuse.run import kernel_source

        path = path._replace(source=kernel_source(program, path.backend, antithetic))
    return path


def _example(sde: Equation, device: torch.device) -> Tensor | None:
    """A state that the equation's drift takes."""
    t = torch.zeros((), device=device)
    for event in (*((d,) for d in range(1, 65)), ()):
        x = torch.full((2, *event), 0.5, device=device)
        try:
            with torch.no_grad():
                sde.drift(t, x)
                sde.diffusion(t, x)
        except Exception:  # whatever an equation says of a state of another size
            continue
        return x
    return None


def choose_path(
    transition: Transition,
    x: Tensor,
    t: Tensor,
    own: OwnTimes | None,
    backend: str,
    fuse: bool | None,
    antithetic: bool,
    refine: int = 1,
) -> tuple[Path, Any]:
    """The path by stated conditions, and the traced program if it is the trajectory kernel.

    Raises RuntimeError if ``fuse`` is true and the trajectory cannot be one kernel.
    """
    choice = resolve_backend(backend, x.device)
    why = f"{choice.backend}: {choice.reason}"
    program, obstacle = None, "fuse=False asks for it"
    if refine > 1:
        obstacle = "refine > 1 joins the noise of finer steps, which no kernel does"
    elif fuse is None or fuse:
        program, obstacle = _trace(transition, x, t, own, choice.backend)
    if program is not None:
        note = f"{why}; each path runs from the first time to the last in one launch"
        return Path("trajectory_kernel", choice.backend, note), program
    if fuse:
        raise RuntimeError(
            f"fuse=True, but this solve cannot be one kernel: {obstacle}. Leave fuse away to run "
            "it step by step"
        )
    why = f"{why}; step by step: {obstacle}"
    name, more = _step_path(transition, choice.backend, antithetic or refine > 1)
    return Path(name, choice.backend, why + more), None


def _trace(
    transition: Transition, x: Tensor, t: Tensor, own: OwnTimes | None, backend: str
) -> tuple[Any, str]:
    """(program, "") or (None, what stands in the way)."""
    if backend == "torch":
        return None, "the torch backend has no kernels of whole paths"
    if x.shape[0] == 0 or x.numel() == 0:
        return None, "there is nothing to solve"
    if transformed():
        return None, "a transform of torch.func or a forward-mode gradient cannot see into a kernel"
    states = transition.start(t, x)
    if torch.is_grad_enabled() and any(s.requires_grad for s in states):
        return None, _GRADIENT
    from sdekit_kernels.fuse.run import kernel_obstacle
    from sdekit_kernels.fuse.tracer import CannotFuse

    from sdekit.solve.trajectory import trace_transition

    try:
        program = trace_transition(transition, states, t, own)
    except CannotFuse as error:
        return None, str(error)
    if torch.is_grad_enabled() and program.learns:
        return None, _GRADIENT
    obstacle = kernel_obstacle(program, backend)
    return (None, obstacle) if obstacle else (program, "")


_GRADIENT = (
    "an input requires a gradient, and gradients do not pass through the trajectory kernel yet: "
    "write torch.no_grad() if none is wanted"
)


def _step_path(transition: Transition, backend: str, changed: bool) -> tuple[str, str]:
    """changed: whether the noise is not that of each step and sample by itself."""
    sde, solver = transition.sde, transition.solver
    if sde.deterministic:
        return "torch", "; an ODE has no noise to fuse"
    if not solver.em_kernel:
        return "torch", f"; {solver.name} has no step kernel"
    if sde.noise_type not in ("additive", "diagonal"):
        return "torch", f"; the step kernel takes elementwise noise, this is {sde.noise_type}"
    if backend == "torch":
        return "torch", ""
    if not transition.plain or changed:
        return "torch", "; the step kernel carries the state alone, with the noise as it is drawn"
    return "step_kernel", ""


def check_state(x0: Any) -> None:
    """Raises TypeError or ValueError unless x0 is a floating-point tensor (B, D...)."""
    check_float_tensor("x0", x0)
    compute_dtype(x0.dtype)
    if x0.ndim == 0:
        raise ValueError("x0 must have shape (B, D...), got a 0-d tensor: write x0[None]")


def check_functionals(functionals: Any, stop: Any) -> None:
    """Raises TypeError for what is no functional, or no function."""
    if functionals is not None and not isinstance(functionals, Mapping):
        raise TypeError(
            f"functionals must be a mapping from names to functionals, got "
            f'{type(functionals).__name__}: write {{"top": sdekit.Maximum(f)}}'
        )
    for name, functional in (functionals or {}).items():
        if not isinstance(functional, Functional):
            raise TypeError(
                f"functional {name!r} must be a Functional (TimeIntegral, Maximum, Minimum, "
                f"FirstPassage or your own subclass), got {functional!r}"
            )
    if stop is not None and not callable(stop):
        raise TypeError(f"stop must be a function of (t, x), got {stop!r}")
