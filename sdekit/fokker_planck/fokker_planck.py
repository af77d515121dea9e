"""The density of an SDE: what is asked for, which scheme is used, and what comes back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from sdekit_kernels.checks import check_choice, check_positive
from torch import Tensor

from sdekit.fokker_planck.cells import make_cells
from sdekit.fokker_planck.density import Density
from sdekit.fokker_planck.initial import initial_masses
from sdekit.fokker_planck.run import Run
from sdekit.fokker_planck.warn import check_far_walls, warn_added
from sdekit.grid import as_times
from sdekit.sde import to_ito
from sdekit.solvers import Equation

__all__ = ["fokker_planck"]

_SCHEMES = ("auto", "linear", "limited")
_DOMINATED = 1e-3
"""Mass beside edges at which drift dominates, above which "auto" takes the limited scheme."""


def fokker_planck(
    sde: Any,
    p0: Callable[[Tensor], Tensor] | Tensor,
    grid: Tensor | Sequence[Tensor],
    times: Sequence[float] | Tensor,
    *,
    t0: float = 0.0,
    boundary: Any = "far",
    scheme: str = "auto",
    tolerance: float = 1e-4,
    max_step: float = math.inf,
) -> Density:
    r"""Density of x_t, dx = f dt + G dW, in one or two dimensions: no paths, no chance.

    dp/dt = -\nabla \cdot (f p) + 1/2 \sum_{ij} \partial_i \partial_j ((G G^T)_{ij} p), for
    the Ito form of the equation, by finite volumes that keep p positive and its mass constant. The
    order is two in the cells' widths. In time there is no error where the coefficients do not
    depend on it, else one below ``tolerance``.

    Args:
        sde: an equation with one or two components, of any noise type; see ``solve``.
        p0: the density at t0: a function of x (B, D) that gives (B,), a tensor of cell averages, or
            a point, a tensor (D,). Its mass on the grid is set to one.
        grid: edges of the cells, an increasing tensor (n + 1,), or a pair of them. Widths may
            change smoothly.
        times: increasing, from t0 on.
        boundary: "far": the density does not get there; no mass passes, and a warning says how far
            to extend the grid if more than 1e-6 stands there. "reflecting": a wall. "absorbing":
            what gets there is gone. A name for all sides; (lower, upper) in one dimension; in two
            one entry a direction, a name or (lower, upper).
        scheme: "linear" is a Markov chain on the cells, by exponential fitting. Where drift crosses
            cells faster than diffusion (|drift| width above the noise's variance; always in a
            direction without noise), its order falls to one. "limited" has order two there too, by
            shorter steps. "auto" takes it if more than 1e-3 of the mass is in such cells at one of
            the times.
        tolerance: of the total variation that steps in time add, where coefficients change with it;
            inf takes every step ``max_step`` long.
        max_step: no step is longer. Needed where coefficients change only for a moment that ten
            looks into a step can miss.

    Raises:
        TypeError: no equation, a grid that is no tensor or pair, a p0 of another type.
        ValueError: a grid of three dimensions, edges that do not increase, times that do not or
            lie before t0, a p0 that is negative, not finite or without mass, coefficients that are
            not finite on the grid, an equation for backward time, and what ``Equation`` refuses.
    """
    equation = _forward(sde)
    cells = make_cells(grid, boundary)
    check_choice("scheme", scheme, _SCHEMES)
    all_times = _check_times(times, t0)
    tolerance, max_step = (
        value if value == math.inf else check_positive(name, value)
        for name, value in (("tolerance", tolerance), ("max_step", max_step))
    )
    with torch.no_grad():
        start = initial_masses(p0, cells)

        def solved(scheme: str) -> Run:
            run = Run(equation, cells, scheme, start)
            run.through(all_times, tolerance, max_step)
            return run

        run, reason = solved("linear" if scheme == "auto" else scheme), "asked for by name"
        if scheme == "auto":
            reason = f"drift dominates diffusion in cells that hold {run.dominated:.2g} of the mass"
            if run.dominated > _DOMINATED:
                run = solved("limited")
    warn_added(run.added)
    for t, m in zip(all_times, run.masses, strict=True):
        check_far_walls(m, t, cells)
    p = torch.stack([m / cells.area for m in run.masses[1:]])
    return Density(
        p=p if cells.dim == 2 else p.squeeze(2),
        t=torch.tensor(all_times[1:], dtype=torch.float64),
        edges=cells.edges[: cells.dim],
        scheme=run.scheme,
        reason=reason,
        steps=run.steps,
    )


def _forward(sde: Any) -> Equation:
    """The equation in Ito's form, checked."""
    equation = Equation(sde)
    if equation.time_direction == "backward":
        raise ValueError(
            f"{equation.name} runs backwards in time, where densities do not spread but gather: "
            "solve the forward equation"
        )
    return Equation(to_ito(sde)) if equation.interpretation == "stratonovich" else equation


def _check_times(times: Any, t0: Any) -> list[float]:
    """t0, and the times after it."""
    (start,) = as_times("t0", [t0])
    wanted = as_times("times", times)
    if not wanted:
        raise ValueError("times is empty: say when the density is wanted")
    if wanted[0] < start:
        raise ValueError(
            f"times must not lie before t0, but times[0] = {wanted[0]} and t0 = {start}"
        )
    for i in range(len(wanted) - 1):
        if wanted[i + 1] <= wanted[i]:
            raise ValueError(
                f"times must increase, but times[{i}] = {wanted[i]} is followed by {wanted[i + 1]}"
            )
    return [start, *wanted]
