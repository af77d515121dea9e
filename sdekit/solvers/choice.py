"""Which solver an equation gets, and what is said where a method does not fit it."""

from __future__ import annotations

from sdekit_kernels.checks import check_choice
from torch import Tensor

from sdekit.solvers.base import Solver
from sdekit.solvers.equation import Equation
from sdekit.solvers.table import SOLVERS

__all__ = ["get_solver"]


def get_solver(
    method: str, sde: Equation, at: tuple[Tensor, Tensor] | None = None, inside: bool = False
) -> tuple[Solver, str]:
    """The solver of that name, if it takes this equation, and what to say of the choice.

    method: a name, or "auto": of the general-purpose solvers that take the equation the one of the
    highest strong order, then weak order, then the one that stands first in the table. at: (t, x)
    in which it is looked at. inside: whether states between the grid's times are wanted, which
    "auto" then asks of a method.

    Raises ValueError for an unknown name (with the nearest known one), and for an equation whose
    noise or interpretation the method does not take (with what to use instead).
    """
    if method == "auto":
        return _best(sde, at, inside)
    solver = SOLVERS[check_choice("method", method, [*SOLVERS, "auto"])]
    if solver.takes(sde):
        return solver, ""
    missing = [name for name in solver.needs if not hasattr(sde.sde, name)]
    if missing:
        raise ValueError(
            f"{solver.name!r} needs an equation with {', '.join(missing)}, which {sde.name} has "
            f"not: {_instead(sde)}"
        )
    raise ValueError(
        f"{solver.name!r} takes {' or '.join(solver.interpretations)} equations with "
        f"{', '.join(solver.noise_types) or 'no'} noise; {sde.name} is {sde.interpretation} with "
        f"{sde.noise_type} noise: {_instead(sde, solver)}"
    )


def _instead(sde: Equation, solver: Solver | None = None) -> str:
    """What to write where a method does not fit."""
    fits = [s.name for s in SOLVERS.values() if s.general_purpose and s.takes(sde)]
    advice = f"use {' or '.join(map(repr, fits)) or 'another form of it'}"
    if solver and sde.noise_type in solver.weak_order and sde.noise_type != "additive":
        advice += f", or solve sdekit.to_{solver.interpretations[0]}(sde), the same process"
    return advice


def _best(sde: Equation, at: tuple[Tensor, Tensor] | None, inside: bool) -> tuple[Solver, str]:
    fits = [s for s in SOLVERS.values() if s.general_purpose and s.takes(sde)]
    fits = [s for s in fits if s.bridges or not inside]
    if sde.deterministic:
        best = max(fits, key=lambda s: s.ode_order)
        return best, f"auto took {best.name!r}, of order {best.ode_order:g}; "

    def order(s: Solver) -> tuple[float, float]:
        return s.strong_order.get(sde.noise_type, 0.0), s.weak_order[sde.noise_type]

    passed: list[str] = []
    for solver in sorted(fits, key=order, reverse=True):
        obstacle = solver.obstacle(sde, *at) if at is not None and at[1].numel() else ""
        if not obstacle:
            strong, weak = order(solver)
            why = f" (not {passed[0]})" if passed else ""
            return solver, (
                f"auto took {solver.name!r} for {sde.interpretation} equations with "
                f"{sde.noise_type} noise, of strong order {strong:g} and weak order {weak:g}{why}; "
            )
        passed.append(f"{solver.name!r}: {obstacle}")
    raise ValueError(f"no method takes {sde.name}: {'; '.join(passed)}")
