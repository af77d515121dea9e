r"""dy/dt = F(t, y) for a batch in which no sample knows the others.

Every sample has its own time, step, error test and status, so its result is that of a solve of this
sample alone. Samples that are done leave the batch, so an easy sample does not pay for a hard one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from sdekit_kernels.dispatch import resolve_backend
from sdekit_kernels.steps.runge_kutta import STIFF, Rule
from torch import Tensor

from sdekit.ode.attempts import Batch, Field, run_attempts
from sdekit.ode.chebyshev import run_chebyshev
from sdekit.ode.dense import Saver
from sdekit.ode.solution import OdeSolution, Steps
from sdekit.ode.tableau import TABLEAUS
from sdekit.ode.trajectory import run_trajectories, trace_attempt

__all__ = ["FLOOR", "check_tolerances", "integrate"]

FEW: Final = 1024
"""Samples below which a kernel of the whole solve, seconds to compile, has to be asked for."""
FLOOR: Final = 1e-10
"""A sample that still refuses a step of this fraction of the whole time is given up. Steps shrink
by 5 at most, so that takes about 14 rejections."""
ROUNDING: Final = 4.0
"""Times eps: the least relative part of an error test. With none, the rounding of a sum such as
log p would refuse steps of every length: 7500 evaluations at atol=1e-9 in float32, and 200 with it,
of the same error. Eight times eps would save another tenth, one time costs a third more."""


def check_tolerances(rtol: Any, atol: Any, dtype: torch.dtype) -> tuple[float, float]:
    """Two positive numbers; raises ValueError for an rtol finer than the type's rounding."""
    rtol, atol = check_positive("rtol", rtol), check_positive("atol", atol)
    least = 8.0 * torch.finfo(dtype).eps
    if rtol < least:
        raise ValueError(
            f"rtol must be at least {least:.1g} in {dtype}, whose rounding is no finer, "
            f"got {rtol:g}: write x.double() or a larger rtol"
        )
    return rtol, atol


def integrate(
    field: Field,
    y: Tensor,
    t0: float,
    t1: float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "tsit5",
    split: int | None = None,
    rest: tuple[float, float] | None = None,
    breaks: Sequence[float] = (),
    save_at: Sequence[float] = (),
    first: float | None = None,
    max_steps: int = 10_000,
    stiff: bool = True,
    record: bool = False,
    backend: str = "auto",
    fuse: bool | None = None,
    owner: Any = None,
) -> OdeSolution:
    r"""Solve dy/dt = F(t, y) from t0 to t1, in either direction, for y (B, n).

    Args:
        field: F as a function of the times (m,), states (m, n) and numbers (m,) int64 of those m
            samples that are still on their way; it returns (m, n). The times are of y's type.
        y: (B, n), float32 or float64.
        rtol, atol: a step is accepted if RMS(error / (atol + rtol |y|)) <= 1 in each of the two
            groups of components [:split] and [split:]; without split there is one group. rest:
            (rtol, atol) of the second group, if it has others; 4 eps of y's type is its least rtol.
        method: "tsit5", "dopri5" or "bosh3".
        breaks: times where F is not smooth, at which a step ends.
        save_at: times between t0 and t1, in their order, at which dense output gives states.
        first: no first step is longer than this; None: than the whole way.
        max_steps: attempts of a sample.
        stiff: whether a sample whose steps stability holds down goes over to Runge-Kutta-Chebyshev.
        record: whether the accepted steps are kept, for gradients through them.
        backend: of the step kernels: "auto", "numba", "triton" or "torch".
        fuse: whether the solve runs as one kernel, in which each sample stays in registers: None
            for 1024 samples or more where it can, True to insist, False to go attempt by attempt.
        owner: what F is made of, an object that lives; saves a second trace in later solves.

    No gradients flow through. Raises TypeError or ValueError for arguments out of range. A sample
    that leaves the finite numbers, or needs too small or too many steps, is reported in ``status``;
    the others are unharmed.
    """
    check_choice("method", method, tuple(TABLEAUS))
    rtol, atol = check_tolerances(rtol, atol, y.dtype)
    first = math.inf if first is None else check_positive("first", first)
    max_steps = check_int_range("max_steps", max_steps, 1, 1 << 31)
    t0, t1 = float(t0), float(t1)
    if not (math.isfinite(t0) and math.isfinite(t1) and t0 != t1):
        raise ValueError(f"t0 and t1 must be two finite times, got {t0} and {t1}")
    if y.ndim != 2:
        raise ValueError(f"y must have the shape (B, n), got {tuple(y.shape)}")
    choice = resolve_backend(backend, y.device)
    low, high = min(t0, t1), max(t0, t1)
    stops = sorted({float(b) for b in breaks if low < float(b) < high}, reverse=t1 < t0)
    saved = [float(s) for s in save_at]
    if any(not low <= s <= high for s in saved) or saved != sorted(saved, reverse=t1 < t0):
        raise ValueError(f"save_at must lie between t0 and t1, in their order, got {saved}")
    if rest is not None:
        rest = max(rest[0], ROUNDING * torch.finfo(y.dtype).eps), rest[1]
    tableau = TABLEAUS[method]
    rule = Rule(
        error=tableau.error,
        order=tableau.order,
        rtol=rtol,
        atol=atol,
        split=y.shape[1] if split is None else split,
        stops=(*stops, t1),
        forwards=t1 > t0,
        floor=abs(t1 - t0) * FLOOR,
        max_steps=max_steps,
        # At the limit itself the steps of a stiff sample swing about it.
        stability=0.9 * tableau.stability if stiff else 0.0,
        rest=rest,
    )
    with torch.no_grad():
        start = torch.full((y.shape[0],), t0, dtype=torch.float64, device=y.device)
        batch = Batch(field, y.detach(), start, choice.backend)
        batch.saver = Saver(saved, y, t0, rule.forwards) if saved else None
        batch.steps = Steps([]) if record else None
        batch.first = first
        program, obstacle = None, "fuse=False was asked for"
        if fuse is None and len(y) < FEW:
            obstacle = f"fewer than {FEW} samples: compiling a kernel would cost more than it saves"
        elif fuse is not False:
            program, obstacle = trace_attempt(batch, tableau, rule, owner)
        if program is not None:
            run_trajectories(batch, tableau, rule, program)
        elif fuse:
            raise RuntimeError(f"fuse=True, but {obstacle}")
        else:
            run_attempts(batch, tableau, rule)
        tense = batch.status == STIFF
        if bool(tense.any()):
            run_chebyshev(batch, rule, tense.nonzero().squeeze(1))
    return OdeSolution(
        y=batch.y,
        t=batch.t,
        status=batch.status,
        nfe=batch.nfe,
        accepted=batch.accepted,
        rejected=batch.rejected,
        stiff=tense,
        saved=None if batch.saver is None else batch.saver.states,
        path=_path(program is not None, choice.backend),
        reason=obstacle or "the whole solve is one kernel",
        steps=batch.steps,
    )


def _path(whole: bool, backend: str) -> str:
    if whole:
        return "trajectory_kernel"
    return "torch" if backend == "torch" else "step_kernel"
