"""Which solver an equation gets, and what is said where a method does not fit it."""

from __future__ import annotations

from sdekit_kernels.checks import check_choice
from torch import Tensor

from sdekit.sde.base import nonnegative_mask
from sdekit.solvers.base import Solver
from sdekit.solvers.equation import Equation
from sdekit.solvers.table import SOLVERS

__all__ = ["get_solver"]


def get_solver(
    method: str, sde: Equation, at: tuple[Tensor, Tensor] | None = None, inside: bool = False
) -> tuple[Solver, str]:
    """The solver of that name, if it takes this equation, and what to say of the choice.

    method: a name, or "auto": a solver that is made for such equations, because it keeps what they
    declare (components at zero or above, Langevin dynamics); else a general-purpose one. Of
    several that take the equation, the one of the highest strong order there, then weak order, then
    the one that stands first in the table. at: (t, x) in which it is looked at. inside: whether
    states between the grid's times are wanted, which "auto" then asks of a method.

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
    fits = [s for s in SOLVERS.values() if s.takes(sde) and (s.bridges or not inside)]
    if sde.deterministic:
        best = max((s for s in fits if s.general_purpose), key=lambda s: s.ode_order)
        return best, f"auto took {best.name!r}, of order {best.ode_order:g}; "
    looked = at is not None and at[1].numel() > 0
    mixed = looked and sde.noise_type == "diagonal" and sde.mixes("diffusion", *at)  # type: ignore[misc]
    kind = f"{sde.interpretation} equations with {sde.noise_type} noise"
    kind += " that mixes components" if mixed else ""

    def order(s: Solver) -> tuple[float, float]:
        return s.orders_on(sde, mixed)

    # What a method for such equations keeps, none of the others does. It has to see that they are.
    own = sorted((s for s in fits if s.made_for and at is not None), key=order, reverse=True)
    rest = sorted((s for s in fits if s.general_purpose), key=order, reverse=True)
    passed: list[str] = []
    for solver in (*own, *rest):
        obstacle = solver.obstacle(sde, *at) if at is not None and (looked or solver in own) else ""
        if not obstacle:
            strong, weak = order(solver)
            what = f"{kind}, " if solver in rest else f"{sde.name}: it is {_own(solver)}; "
            why = f" (not {passed[0]})" if passed else ""
            if solver in rest and at is not None and bool(nonnegative_mask(sde.sde, at[1]).any()):
                why += " (no method for this form keeps its components at zero or above)"
            return solver, (
                f"auto took {solver.name!r} for {what}of strong order {strong:g} and weak order "
                f"{weak:g}{why}; "
            )
        if solver in rest:
            passed.append(f"{solver.name!r}: {obstacle}")
    raise ValueError(f"no method takes {sde.name}: {'; '.join(passed)}")


def _own(solver: Solver) -> str:
    """Why a method comes before the general ones."""
    keeps = f" and keeps {solver.preserves}" if solver.preserves else ""
    return f"made for {solver.made_for}{keeps}"
