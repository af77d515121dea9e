"""The forward processes of score-based generative modelling: VP, sub-VP and VE.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole 2021, "Score-based generative modeling through
stochastic differential equations", arXiv 2011.13456. Data at time 0, noise at time T.
"""

from __future__ import annotations

from typing import Any, final

import torch
from sdekit_kernels.checks import check_choice
from torch import Tensor

from sdekit.sde.affine import AffineSDE, Coefficients
from sdekit.sde.base import Time, as_time, time_pair
from sdekit.sde.schedules import (
    BetaSchedule,
    CosineBeta,
    GeometricSigma,
    IdentitySigma,
    LinearBeta,
    SigmaSchedule,
)


def _schedule(given: Any, known: dict[str, Any], needs: tuple[str, ...], limits: Any) -> Any:
    """A schedule from its name and limits, or the schedule object itself."""
    limits = {name: value for name, value in limits.items() if value is not None}
    if isinstance(given, str):
        made = known[check_choice("schedule", given, known)]
        try:
            return made(**limits)
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                raise
            raise TypeError(f"schedule {given!r} does not take {', '.join(limits)}") from None
    if not all(hasattr(given, name) for name in needs):
        raise TypeError(
            f"schedule must be one of {', '.join(map(repr, known))} or an object with "
            f"{', '.join(needs)}, got {given!r}"
        )
    if limits:
        raise TypeError(f"{', '.join(limits)} belong to the schedule object: give them there")
    return given


def _beta_schedule(given: Any, beta_min: Any, beta_max: Any) -> BetaSchedule:
    made: BetaSchedule = _schedule(
        given,
        {"linear": LinearBeta, "cosine": CosineBeta},
        ("beta", "integral", "step", "check_grid"),
        {"beta_min": beta_min, "beta_max": beta_max},
    )
    return made


@final
class VP(AffineSDE):
    r"""Variance preserving: dx = -beta(t)/2 x dt + sqrt(beta(t)) dW, on [0, 1].

    With B = \int_s^t beta: mean e^{-B/2} x_s, variance 1 - e^{-B}; prior N(0, 1).

    schedule: "linear" (beta from beta_min = 0.1 to beta_max = 20), "cosine", or an object such as
    ``LinearBeta(0.1, 20.0)`` or ``CosineBeta(s=0.008)``.
    Raises TypeError or ValueError for limits that are not 0 < beta_min <= beta_max, or an unknown
    name.
    """

    def __init__(
        self, schedule: Any = "linear", *, beta_min: Any = None, beta_max: Any = None
    ) -> None:
        self.schedule = _beta_schedule(schedule, beta_min, beta_max)
        # Objects of a user's own may leave breaks away.
        self.breaks = tuple(getattr(self.schedule, "breaks", ()))

    def drift_rate(self, t: Time) -> Tensor:
        """-beta(t) / 2."""
        return -0.5 * self.schedule.beta(as_time(t))

    def diffusion_rate(self, t: Time) -> Tensor:
        """sqrt(beta(t))."""
        return self.schedule.beta(as_time(t)).sqrt()

    def log_mean_ratio(self, s: Time, t: Time) -> Tensor:
        r"""-1/2 \int_s^t beta."""
        return -0.5 * self.schedule.integral(*time_pair(s, t))

    def transition_variance(self, s: Time, t: Time) -> Tensor:
        r"""1 - exp(-\int_s^t beta)."""
        return -torch.expm1(-self.schedule.integral(*time_pair(s, t)))

    @property
    def prior_std(self) -> float:
        """1: the law that the equation settles to."""
        return 1.0

    def reverse_diffusion_coefficients(self, t: Time, t_next: Time) -> Coefficients:
        """A = 2 - sqrt(1 - beta_i), B = beta_i, C = sqrt(beta_i) (Song et al. 2021, appendix E).

        beta_i = beta(t) (t - t_next) for the linear schedule; for the cosine schedule the step of
        Nichol & Dhariwal 2021. It must be below 1: see ``check_grid``.
        """
        beta = self.schedule.step(*time_pair(t, t_next))
        return 2.0 - (1.0 - beta).sqrt(), beta, beta.sqrt()

    def ancestral_coefficients(self, t: Time, t_next: Time) -> Coefficients:
        """A = 1 / sqrt(1 - beta_i), B = beta_i / sqrt(1 - beta_i), C = sqrt(beta_i).

        The sampler of DDPM (Ho et al. 2020, alg. 2, with sigma_i^2 = beta_i), as Song et al. 2021
        give it in eq. 4; beta_i as in ``reverse_diffusion_coefficients``.
        """
        beta = self.schedule.step(*time_pair(t, t_next))
        shrink = (1.0 - beta).rsqrt()
        return shrink, beta * shrink, beta.sqrt()

    def langevin_alpha(self, t: Time, t_next: Time) -> Tensor:
        """1 - beta_i (Song et al. 2021, alg. 5)."""
        return 1.0 - self.schedule.step(*time_pair(t, t_next))

    def check_grid(self, times: Tensor) -> None:
        """Raises ValueError, with the number of steps needed, if some beta_i is not below 1.

        The predictors "reverse_diffusion", "ancestral" and "probability_flow" and both correctors
        need it; "euler_maruyama" alone does not.
        """
        self.schedule.check_grid(times)


@final
class SubVP(AffineSDE):
    r"""Sub-VP: dx = -beta(t)/2 x dt + sqrt(beta(t) (1 - e^{-2 B(t)})) dW, B(t) = \int_0^t beta.

    Mean e^{-B(t)/2} x_0, std 1 - e^{-B(t)}; prior N(0, 1). The variance of a transition factors:
    (1 - e^{-(B(t) - B(s))}) (1 - e^{-(B(t) + B(s))}). schedule, beta_min, beta_max as for ``VP``.
    """

    def __init__(
        self, schedule: Any = "linear", *, beta_min: Any = None, beta_max: Any = None
    ) -> None:
        self.schedule = _beta_schedule(schedule, beta_min, beta_max)
        # Objects of a user's own may leave breaks away.
        self.breaks = tuple(getattr(self.schedule, "breaks", ()))

    def _integral(self, t: Tensor) -> Tensor:
        return self.schedule.integral(torch.zeros_like(t), t)

    def drift_rate(self, t: Time) -> Tensor:
        """-beta(t) / 2."""
        return -0.5 * self.schedule.beta(as_time(t))

    def diffusion_rate(self, t: Time) -> Tensor:
        """sqrt(beta(t) (1 - e^{-2 B(t)}))."""
        t = as_time(t)
        return (self.schedule.beta(t) * -torch.expm1(-2.0 * self._integral(t))).sqrt()

    def log_mean_ratio(self, s: Time, t: Time) -> Tensor:
        r"""-1/2 \int_s^t beta."""
        return -0.5 * self.schedule.integral(*time_pair(s, t))

    def transition_variance(self, s: Time, t: Time) -> Tensor:
        """(1 - e^{-(B(t) - B(s))}) (1 - e^{-(B(t) + B(s))})."""
        s, t = time_pair(s, t)
        between = self.schedule.integral(s, t)
        total = self._integral(s) + self._integral(t)
        return torch.expm1(-between) * torch.expm1(-total)

    @property
    def prior_std(self) -> float:
        """1: the law that the equation settles to."""
        return 1.0

    def langevin_alpha(self, t: Time, t_next: Time) -> Tensor:
        """1 - beta_i, as for ``VP`` (Song et al. 2021, alg. 5)."""
        return 1.0 - self.schedule.step(*time_pair(t, t_next))

    def check_grid(self, times: Tensor) -> None:
        """Raises ValueError, with the number of steps needed, if some beta_i is not below 1.

        Only the correctors need it; the predictors take steps of any length.
        """
        self.schedule.check_grid(times)


@final
class VE(AffineSDE):
    """Variance exploding: dx = sqrt(d sigma(t)^2 / dt) dW.

    Mean x_s, variance sigma(t)^2 - sigma(s)^2; prior N(0, sigma_max^2).

    schedule: "geometric" (sigma(t) = sigma_min (sigma_max / sigma_min)^t on [0, 1], 0.01 to 50,
    Song et al. 2021), "edm" (sigma(t) = t on [0, sigma_max], 0.002 to 80, Karras et al. 2022), or
    an object such as ``GeometricSigma(0.01, 50.0)`` or ``IdentitySigma(0.002, 80.0)``.

    The geometric sigma(0) is sigma_min, not 0. Started from the data at t = 0, the equation adds
    the variance sigma(t)^2 - sigma_min^2, and that is what ``std`` and ``marginal`` say, so that
    the SDE and its laws agree exactly. Song et al.'s code takes sigma(t) itself for the std of x_t,
    that is, it counts the data as blurred by sigma_min already. The two differ by sigma_min^2 in
    variance: much for t near 0, nothing visible at T. ``sigma(t)`` gives their level; it also sets
    the coefficients of the samplers' steps, as published.
    Raises TypeError or ValueError for limits that are not 0 < sigma_min < sigma_max, or an unknown
    name.
    """

    def __init__(
        self, schedule: Any = "geometric", *, sigma_min: Any = None, sigma_max: Any = None
    ) -> None:
        self.schedule: SigmaSchedule = _schedule(
            schedule,
            {"geometric": GeometricSigma, "edm": IdentitySigma},
            ("sigma", "diffusion", "added_variance", "sigma_max", "T", "t_min"),
            {"sigma_min": sigma_min, "sigma_max": sigma_max},
        )
        self.T = self.schedule.T
        self.t_min = self.t_min_likelihood = self.schedule.t_min

    def sigma(self, t: Time) -> Tensor:
        """Return the published noise level: not the std of x_t given x_0 if sigma(0) > 0."""
        return self.schedule.sigma(as_time(t))

    def drift_rate(self, t: Time) -> Tensor:
        """0."""
        return torch.zeros_like(as_time(t))

    def diffusion_rate(self, t: Time) -> Tensor:
        """sqrt(d sigma(t)^2 / dt)."""
        return self.schedule.diffusion(as_time(t))

    def log_mean_ratio(self, s: Time, t: Time) -> Tensor:
        """0."""
        s, t = time_pair(s, t)
        return torch.zeros_like(t - s)

    def transition_variance(self, s: Time, t: Time) -> Tensor:
        """sigma(t)^2 - sigma(s)^2."""
        return self.schedule.added_variance(*time_pair(s, t))

    @property
    def prior_std(self) -> float:
        """sigma_max, as published."""
        return self.schedule.sigma_max

    def reverse_diffusion_coefficients(self, t: Time, t_next: Time) -> Coefficients:
        """A = 1, B = sigma(t)^2 - sigma(t_next)^2, C = sqrt(B) (Song et al. 2021, appendix E)."""
        t, t_next = time_pair(t, t_next)
        variance = self.schedule.added_variance(t_next, t)
        return torch.ones_like(variance), variance, variance.sqrt()

    def ancestral_coefficients(self, t: Time, t_next: Time) -> Coefficients:
        """A = 1, B = v, C = sqrt(v) sigma(t_next) / sigma(t), v = sigma(t)^2 - sigma(t_next)^2.

        Song et al. 2021, appendix F.
        """
        t, t_next = time_pair(t, t_next)
        variance = self.schedule.added_variance(t_next, t)
        back = self.schedule.sigma(t_next) / self.schedule.sigma(t)
        return torch.ones_like(variance), variance, variance.sqrt() * back
