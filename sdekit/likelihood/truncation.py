r"""What a likelihood lacks because the ODE stops at t_min > 0: log p_{t_min}(x) - log p_0(x).

At a fixed x a law that is carried by the flow dx = F(t, x) dt changes by (Liouville's equation; for
the probability flow of an SDE it is the equation of Fokker and Planck)

    d log p_t(x) / dt = -(div F + F . s),    s = grad log p_t.

For an affine SDE no rectangle in t is needed. With x_t = offset + alpha y_0 + sigma z the density
of u = y_t / alpha is the data's, blurred by a Gaussian of variance v = sigma^2 / alpha^2, whatever
the schedule; so, with q_v the density of u at x - offset = y,

    log p_t(x) - log p_0(x) = -D log alpha                            (volume)
        + \int over the segment from alpha y to y of s(t, .)          (the point moves)
        + 1/2 \int_0^v (div s_q + |s_q|^2) dv'                        (the blur: heat equation)

with the SDE's own alpha and sigma, and s_q(u) = alpha s(t, alpha u).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor

from sdekit.likelihood.pointwise import (
    ScoreLike,
    check_affine,
    check_points,
    divergence_at,
    score_at,
)
from sdekit.sde import AffineSDE
from sdekit.sde.parameters import event_sum

__all__ = ["flow_truncation_error", "truncation_error"]

Divergence = Callable[[Tensor, Tensor], Tensor]

# Beyond this the noise at t_min is no small blur of the data: N(m, s^2) has sigma^2 / s^2 = 1 here.
_CURVATURE = 0.5


@torch.no_grad()
def truncation_error(
    sde: AffineSDE,
    score: ScoreLike,
    x: Tensor,
    divergence: Divergence,
    *,
    t_min: float | None = None,
    order: int = 1,
) -> Tensor:
    r"""An estimate of log p_{t_min}(x) - log p_0(x) for each sample of x (B, D...): (B,), in nats.

    order 1 asks at t_min alone, with alpha and sigma those of t_min and y = x - offset:

        -D log alpha + (1 - alpha) y . s(x) + sigma^2 / 2 (div s(x) + |s(x)|^2).

    Its error is of second order in v = sigma^2 / alpha^2 and 1 - alpha. order 2 takes the middle of
    the segment, and extrapolates the blur's rate to v / 2 from t_min and 2 t_min; its error is of
    third order, for two calls of the divergence and three of the score instead of one of each.

    score, divergence: (t, x) -> s of x's shape, and div s (B,); t has the shape (B,).
    t_min: by default ``sde.t_min_likelihood``.

    Data without a density at time 0 (points, or a surface of fewer dimensions than x has) make
    log p_0 infinite, and no estimate means anything. Of that the score at t_min shows that the
    noise is no small blur of the data: where sigma^2 |div s| / D > 1/2 (it is
    sigma^2 / (s^2 + sigma^2) for Gaussian data of std s, 1 for points) the answer is NaN. A surface
    of few missing dimensions passes this test; then each dimension that the noise fills has some
    -1/2 nat in order 1 and -5/8 in order 2 (points under noise whose variance is linear in t): two
    orders that differ by 1/8 nat a dimension are the sign to look for. A sample whose score is
    not finite has NaN or an infinity; the others are unharmed.

    Raises TypeError for an SDE that is not affine, or what ``check_points`` refuses; ValueError for
    an SDE with parameters per component (use ``flow_truncation_error``), an order that is not 1 or
    2, times that do not fit, or shapes that differ.
    """
    sde, x = check_affine(sde), check_points(x)
    if sde.event_shape is not None:
        raise ValueError(
            f"{type(sde).__name__} has parameters of event shape {tuple(sde.event_shape)}, and the "
            "blur needs one sigma for all components: write flow_truncation_error(field, score, "
            "x, divergence of the field)"
        )
    start, order = _check(sde.t_min_likelihood if t_min is None else t_min, order)
    if start * order > sde.T:
        raise ValueError(f"t_min must be at most T / {order} = {sde.T / order:g}, got {start:g}")
    ask = _Rates(sde, score, divergence, x)
    return (ask.first_order(start) if order == 1 else ask.second_order(start)).to(x.dtype)


@torch.no_grad()
def flow_truncation_error(
    field: ScoreLike,
    score: ScoreLike,
    x: Tensor,
    divergence: Divergence,
    *,
    t_min: float,
    order: int = 1,
) -> Tensor:
    r"""The same for any flow that carries p_t: -\int_0^{t_min} (div F + F . s) dt, (B,), in nats.

    field: (t, x) -> F of x's shape, for an SDE ``ProbabilityFlow(sde, score).drift``, whatever its
    diagonal or scalar noise. divergence: (t, x) -> div F, (B,). score: s = grad log p_t.
    t has the shape (B,). order 1 takes the integrand at t_min, order 2 extrapolates it to t_min / 2
    from t_min and 2 t_min; the errors are of second and third order in t_min where F is smooth in t
    down to 0. It is not for sub-VP and for VE with sigma(t) = t, whose g^2 grows from 0 and whose
    order 1 is twice too large here: ``truncation_error`` knows their integrals.

    Of data without a density at time 0 nothing is detected here. Raises TypeError or ValueError for
    times, an order or shapes that do not fit.
    """
    x = check_points(x)
    start, order = _check(t_min, order)

    def rate(t: float) -> Tensor:
        slope = score_at(field, t, x)
        return -divergence_at(divergence, t, x) - event_sum(slope * score_at(score, t, x))

    middle = rate(start) if order == 1 else 1.5 * rate(start) - 0.5 * rate(2.0 * start)
    return (start * middle).to(x.dtype)


class _Rates:
    """The two expansions at the points x; sums are in float64, the score sees x's own dtype."""

    def __init__(self, sde: AffineSDE, score: ScoreLike, divergence: Divergence, x: Tensor) -> None:
        self.sde, self.score, self.divergence, self.x = sde, score, divergence, x
        self.y, self.dim = sde.centered(x), x.shape[1:].numel()

    def first_order(self, t: float) -> Tensor:
        """All at x itself, with one call of the score."""
        log_alpha, variance = self._coefficients(t)
        s = score_at(self.score, t, self.x)
        div = divergence_at(self.divergence, t, self.x)
        moved = -math.expm1(log_alpha) * event_sum(self.y.double() * s)
        blur = 0.5 * variance * (div + event_sum(s.square()))
        return self._honest(-self.dim * log_alpha + moved + blur, variance * div)

    def second_order(self, t: float) -> Tensor:
        """The segment by its middle; the blur's rate at v / 2, on the line through v and v(2 t)."""
        log_alpha, variance = self._coefficients(t)
        if variance == 0.0:
            return self.first_order(t)
        alpha = math.exp(log_alpha)
        middle = self.sde.uncentered(0.5 * (1.0 + alpha) * self.y)
        s = score_at(self.score, t, middle)
        moved = -math.expm1(log_alpha) * event_sum(self.y.double() * s)
        near, div = self._heat_rate(t, log_alpha)
        later_log_alpha, later = self._coefficients(2.0 * t)
        far, _ = self._heat_rate(2.0 * t, later_log_alpha)
        v, v_later = variance / alpha**2, later * math.exp(-2.0 * later_log_alpha)
        rate = near - 0.5 * v / (v_later - v) * (far - near)
        return self._honest(-self.dim * log_alpha + moved + v * rate, variance * div)

    def _heat_rate(self, t: float, log_alpha: float) -> tuple[Tensor, Tensor]:
        """(div s_q + |s_q|^2) / 2 = d log q / dv at u = y, and div s there."""
        place = self.sde.uncentered(math.exp(log_alpha) * self.y)
        s, div = score_at(self.score, t, place), divergence_at(self.divergence, t, place)
        return 0.5 * math.exp(2.0 * log_alpha) * (div + event_sum(s.square())), div

    def _coefficients(self, t: float) -> tuple[float, float]:
        """log alpha(t) and sigma(t)^2, in float64."""
        zero, now = torch.tensor([0.0, t], dtype=torch.float64).unbind()
        log_alpha = self.sde.log_mean_ratio(zero, now)
        return float(log_alpha), float(self.sde.transition_variance(zero, now))

    def _honest(self, estimate: Tensor, curvature: Tensor) -> Tensor:
        """NaN where the noise is no small blur."""
        small = curvature.abs() <= _CURVATURE * self.dim
        return torch.where(small | ~estimate.isfinite(), estimate, math.nan)


def _check(t_min: float, order: int) -> tuple[float, int]:
    start = check_positive("t_min", t_min, allow_zero=True)
    return start, check_int_range("order", order, 1, 3)
