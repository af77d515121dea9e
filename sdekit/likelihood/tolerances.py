r"""How closely the ODE of a likelihood is solved for the rtol and atol that were asked for.

    state:          RMS(error / (a + r |x|)) <= 1,      r, a = rtol / 10, atol / 10
    log-density:    |error| <= atol min(\sqrt D, 8) + 4 eps |its integral|      nats a step

A state that is off by d is off in log p by d . \nabla log p_t, and that slope is long: some
\sqrt D / sigma for D components of width sigma. Held to the whole tolerances, the state would be
the larger part of the error: 1.5e-3 nats at 1e-5 of a mixture in 784 components under VE, whose
x grows to 50, and 1.1e-3 of one with a width of 0.01 in the plane. At a tenth of them it is not,
and costs little, since there the log-density sets the steps: 1e-4 nats of the worst of 32 samples
in 784 components take 180 evaluations instead of 275, 1e-3 on the digits' network 120, not 131.

The error test of the log-density has no relative part but its rounding, which must never reject a
step: shorter ones would be refused for the same reason, thousands of them.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import torch

from sdekit.ode.integrate import check_tolerances

__all__ = ["Held", "check_accuracy", "hold", "least_tolerance"]

_STATE: Final = 0.1
"""Of the tolerances: what the state is held to."""
_NATS: Final = 8.0
"""Times atol: the most that a step may add to the error of log p, whatever the dimension."""
_EVALUATED: Final = 0.25
"""Times eps of a field that is coarser than the sum of its values: a step is some twentieth of the
whole integral, and its rounding a few eps of that."""


class Held(NamedTuple):
    """Arguments of ``sdekit.ode.integrate``."""

    rtol: float
    atol: float
    rest: tuple[float, float]


def least_tolerance(dtype: torch.dtype) -> float:
    """The finest rtol and atol in this type: 9.5e-7 in float32, 1.8e-15 in float64."""
    return 8.0 * torch.finfo(dtype).eps


def check_accuracy(rtol: Any, atol: Any, dtype: torch.dtype) -> tuple[float, float]:
    """Two positive numbers; raises ValueError for one finer than ``least_tolerance``."""
    rtol, atol = check_tolerances(rtol, atol, dtype)
    least = least_tolerance(dtype)
    if atol < least:
        raise ValueError(
            f"atol must be at least {least:.2g} in {dtype}: a log-density of a nat or more has no "
            f"finer rounding, got {atol:g}: write x.double() or a larger atol"
        )
    return rtol, atol


def hold(rtol: float, atol: float, dim: int, dtype: torch.dtype) -> Held:
    """What the solver is given. dim: components of x. dtype: that the field is evaluated in.

    ``integrate`` itself adds the rounding of the type that y is carried in.
    """
    least = least_tolerance(dtype)
    relative, absolute = (min(tol, max(_STATE * tol, least)) for tol in (rtol, atol))
    nats = atol * min(math.sqrt(dim), _NATS)
    return Held(relative, absolute, (_EVALUATED * torch.finfo(dtype).eps, nats))
