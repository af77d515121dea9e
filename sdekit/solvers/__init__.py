"""The solvers, by name. A new one adds its file and a row here."""

from __future__ import annotations

from typing import Final

from sdekit_kernels.checks import check_choice

from sdekit.solvers.base import Solver
from sdekit.solvers.equation import Equation
from sdekit.solvers.euler_maruyama import EulerMaruyama
from sdekit.solvers.heun import Heun

__all__ = ["SOLVERS", "Equation", "EulerMaruyama", "Heun", "Solver", "get_solver"]

SOLVERS: Final[dict[str, Solver]] = {s.name: s for s in (EulerMaruyama(), Heun())}


def get_solver(method: str, sde: Equation) -> Solver:
    """The solver of that name, if it takes this equation.

    Raises ValueError for an unknown name (with the nearest known one), and for an equation whose
    noise or interpretation the method does not take (with what to use instead).
    """
    solver = SOLVERS[check_choice("method", method, SOLVERS)]
    same = sde.deterministic or sde.noise_type == "additive"
    fits = [
        s.name
        for s in SOLVERS.values()
        if sde.noise_type in s.noise_types and (same or sde.interpretation in s.interpretations)
    ]
    if solver.name in fits:
        return solver
    raise ValueError(
        f"{solver.name!r} takes {' or '.join(solver.interpretations)} equations with "
        f"{', '.join(solver.noise_types)} noise; {sde.name} is {sde.interpretation} with "
        f"{sde.noise_type} noise: use {' or '.join(map(repr, fits)) or 'another form of it'}"
    )
