"""What a sampling run needs to know before it starts: the grid, and every step's coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdekit.sample.correctors import CORRECTORS
from sdekit.sample.draws import Draws
from sdekit.sample.grid import check_times, following, uniform_times
from sdekit.sample.predictors import PREDICTORS
from sdekit.sample.start import as_times, check_start, rows
from sdekit.sde import AffineSDE
from sdekit.sde.parameters import Parameter, at

Row = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Coefficients on the state's device, so that the loop neither computes nor waits for one.

    t: N + 1 times, 0-d. offset: the SDE's.
    predictor: for each of N steps (A, B, C), empty without a predictor.
    corrector: for each of N steps the keywords of ``langevin_step``, empty without a corrector; or
        "step_size" and "noise", the eps and c of x + eps s + c z.
    corrector_t: for each of N steps the time at which the corrector asks for the score.
    """

    t: Row
    offset: Parameter
    predictor: list[tuple[Tensor, ...]]
    corrector: list[dict[str, Any]]
    corrector_t: Row


def make_plan(
    sde: AffineSDE,
    grid: Tensor,
    x: Tensor,
    *,
    predictor: str,
    corrector: str,
    corrector_first: bool,
    snr: float,
    norm: str,
    options: dict[str, Any] | None = None,
    data_std: Parameter | None = None,
) -> Plan:
    """The plan for a state like x on the grid (N + 1,), computed in float64 on the host.

    options: the predictor's own keywords. data_std: the corrector's, if it has one.

    Raises ValueError if a coefficient is not finite, or a corrector's step size is negative:
    ``sde.check_grid`` says how many steps are needed then.
    """
    n = len(grid) - 1
    t = as_times(grid, x)
    levels = slice(0, n) if corrector_first else slice(1, n + 1)
    return Plan(
        t=t,
        offset=at(sde.offset, x),
        predictor=_predictor_rows(sde, predictor, grid, x, options or {}),
        corrector=_corrector_rows(sde, corrector, grid, levels, snr, norm, data_std, x),
        corrector_t=t[levels],
    )


def make_grid(sde: AffineSDE, steps: int | None, t_min: float | None, times: Any) -> Tensor:
    """The grid that was asked for, (N + 1,) in float64 on the host."""
    if times is None:
        return uniform_times(sde, 1000 if steps is None else steps, t_min=t_min)
    if steps is not None or t_min is not None:
        raise ValueError("times is the whole grid: give either times, or steps and t_min")
    return check_times(times, sde)


def check_prior_time(sde: AffineSDE, grid: Tensor) -> None:
    """Raises ValueError if the grid does not start at T, where the prior is the law."""
    if abs(float(grid[0]) - sde.T) > 1e-6 * sde.T:
        raise ValueError(
            f"the prior is the law at T = {sde.T:g}, but times start at {float(grid[0]):g}: "
            "start them at sde.T, or give the state there as x_init"
        )


def first_state(
    sde: AffineSDE,
    grid: Tensor,
    draws: Draws,
    size: tuple[int, ...],
    x_init: Tensor | None,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    backend: str,
) -> Tensor:
    """The state at the grid's first time, (B, D...): ``x_init``, or draws of the prior at T.

    Raises TypeError or ValueError for an x_init that does not fit, a grid that does not start at T
    without one, or an event that is not the SDE's.
    """
    if x_init is not None:
        return check_start(x_init, size, dtype, device)
    check_prior_time(sde, grid)
    sde.check_event(torch.empty(size, device="meta"))
    return draws.prior(
        sde,
        size,
        dtype=torch.float32 if dtype is None else dtype,
        device="cpu" if device is None else device,
        backend=backend,
    )


def _predictor_rows(
    sde: AffineSDE, name: str, grid: Tensor, x: Tensor, options: dict[str, Any]
) -> list[tuple[Tensor, ...]]:
    predictor = PREDICTORS[name]
    if predictor is None:
        return []
    tables = predictor.coefficients(sde, grid[:-1], grid[1:], **options)
    if not all(bool(torch.isfinite(table).all()) for table in tables):
        sde.check_grid(grid)
        raise ValueError(f"the coefficients of {name!r} are not finite on this grid: refine it")
    return list(zip(*(rows(table, len(grid) - 1, x) for table in tables), strict=True))


def _corrector_rows(
    sde: AffineSDE,
    name: str,
    grid: Tensor,
    levels: slice,
    snr: float,
    norm: str,
    data_std: Parameter | None,
    x: Tensor,
) -> list[dict[str, Any]]:
    rule = CORRECTORS[name]
    if rule is None:
        return []
    more = {} if data_std is None else {"data_std": data_std}
    tables = rule(sde, grid[levels], following(grid)[levels], snr, **more)
    for table in tables.values():
        # Zero passes: the SDE may add no noise at all.
        if not bool((table >= 0.0).all()):
            sde.check_grid(grid)
            raise ValueError(f"the step size of {name!r} is negative on this grid: refine it")
    columns = {key: rows(table, len(grid) - 1, x) for key, table in tables.items()}
    fixed: dict[str, Any] = {"snr": snr, "norm": norm} if name == "langevin" else {}
    return [fixed | {key: row[i] for key, row in columns.items()} for i in range(len(grid) - 1)]
