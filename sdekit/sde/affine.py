r"""Affine equations with elementwise coefficients, whose laws are known in closed form.

    dx = a(t) (x - offset) dt + g(t) dW

Every formula below is in y = x - offset, the displacement from the constant ``offset`` (0 for the
diffusions of generative modelling, mu for an Ornstein-Uhlenbeck process): y obeys the same equation
without a constant term, so that one step of a sampler is y_next = A y + B score + C z.
"""

from __future__ import annotations

from abc import abstractmethod

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.noise import keys
from sdekit.sde.base import (
    SDE,
    Marginal,
    Time,
    as_time,
    check_batched,
    expand,
    law_times,
    time_pair,
)
from sdekit.sde.parameters import (
    Parameter,
    at,
    check_event,
    event_sum,
    log_normal_density,
    shifted,
)

Coefficients = tuple[Tensor, Tensor, Tensor]


class AffineSDE(SDE):
    r"""dx = a(t) (x - offset) dt + g(t) dW, from data at time 0 to noise at time T.

    A subclass gives a(t), g(t) and two integrals of them; all the rest follows:

    - ``drift_rate(t)``: a(t);
    - ``diffusion_rate(t)``: g(t);
    - ``log_mean_ratio(s, t)``: \int_s^t a(u) du;
    - ``transition_variance(s, t)``: \int_s^t exp(2 \int_u^t a) g(u)^2 du.

    Coefficients that these return are 0-d (t 0-d), (B,) (t one entry a sample), or, where a
    parameter is per component, (1, D...) or (B, D...). They have the dtype of t; differences of
    exponentials go through expm1, so that float32 keeps its relative accuracy as t goes to 0.
    Nothing here waits for the device: no value of a tensor is read, except in ``check_grid`` and
    ``prior_std``. A parameter that lives elsewhere than x is copied there, which does wait: keep
    per component parameters on the device on which they are used.

    Attributes: ``T``, the time of pure noise; ``t_min``, the smallest time at which a sampler asks
    for the score (below it 1 / std amplifies the score's error); ``t_min_likelihood``, the same for
    likelihoods; ``offset``; ``event_shape``, the shape of per component parameters or None;
    ``breaks``, the times at which a coefficient is not smooth.
    """

    noise_type = "additive"
    T: float = 1.0
    t_min: float = 1e-3
    t_min_likelihood: float = 1e-5
    breaks: tuple[float, ...] = ()
    offset: Parameter = 0.0
    event_shape: tuple[int, ...] | None = None

    @abstractmethod
    def drift_rate(self, t: Time) -> Tensor:
        """a(t), per unit of time."""

    @abstractmethod
    def diffusion_rate(self, t: Time) -> Tensor:
        """g(t) >= 0, per square root of a unit of time."""

    @abstractmethod
    def log_mean_ratio(self, s: Time, t: Time) -> Tensor:
        r"""\int_s^t a(u) du: the log of the factor by which y's mean changes from s to t."""

    @abstractmethod
    def transition_variance(self, s: Time, t: Time) -> Tensor:
        """Variance of x_t given x_s, for s <= t."""

    # -- the equation ------------------------------------------------------------------------------

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """a(t) (x - offset), of x's shape."""
        return expand(self.drift_rate(as_time(t, x)), x) * self.centered(x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """g(t), broadcastable to x's shape."""
        self.check_event(x)
        return expand(self.diffusion_rate(as_time(t, x)), x)

    def centered(self, x: Tensor) -> Tensor:
        """``y`` = x - offset."""
        self.check_event(x)
        return shifted(x, -self.offset)

    def uncentered(self, y: Tensor) -> Tensor:
        """``x`` = y + offset."""
        self.check_event(y)
        return shifted(y, self.offset)

    def check_event(self, x: Tensor) -> None:
        """Raises ValueError if x (B, D...) does not fit the per component parameters."""
        check_event(type(self).__name__, self.event_shape, x)

    # -- its laws ----------------------------------------------------------------------------------

    def mean_coefficient(self, t: Time) -> Tensor:
        r"""alpha(t) = exp(\int_0^t a): E[x_t | x_0] = offset + alpha(t) (x_0 - offset)."""
        t = as_time(t)
        return self.log_mean_ratio(torch.zeros_like(t), t).exp()

    def std(self, t: Time) -> Tensor:
        """sigma(t): standard deviation of x_t given x_0."""
        t = as_time(t)
        return self.transition_variance(torch.zeros_like(t), t).sqrt()

    def marginal(self, t: Time, x0: Tensor) -> Marginal:
        """Mean and std of x_t given x_0, both of x0's shape (B, D...)."""
        start, t = law_times(0.0, t, check_batched(x0))
        return self.transition(start, t, x0)

    def transition(self, s: Time, t: Time, x: Tensor) -> Marginal:
        """Mean and std of x_t given x_s = x, for s <= t, both of x's shape (B, D...)."""
        s, t = law_times(s, t, check_batched(x))
        ratio = expand(self.log_mean_ratio(s, t).exp(), x)
        std = expand(self.transition_variance(s, t).sqrt(), x)
        return Marginal(self.uncentered(ratio * self.centered(x)), std.expand_as(x))

    def exact(self, s: Time, t: Time, x: Tensor, dW: Tensor) -> Tensor:
        """x_t with its law given x_s = x, for s < t: mean + std dW / sqrt(t - s), of x's shape.

        dW = W_t - W_s, of x's shape. It is off the path with that dW by O((t - s)^{3/2}).
        """
        s, t = law_times(s, t, check_batched(x))
        law = self.transition(s, t, x)
        return law.mean + law.std * (dW / expand((t - s).sqrt(), x))

    def covariance(self, s: Time, t: Time) -> Tensor:
        r"""Cov(x_s, x_t | x_0) = sigma(min)^2 exp(\int_min^max a), in either order of s and t."""
        s, t = time_pair(s, t)
        first, last = torch.minimum(s, t), torch.maximum(s, t)
        before = self.transition_variance(torch.zeros_like(first), first)
        return before * self.log_mean_ratio(first, last).exp()

    def tweedie(self, t: Time, x: Tensor, score: Tensor) -> Tensor:
        """E[x_0 | x_t = x] = offset + (y + sigma(t)^2 score) / alpha(t) (Efron 2011)."""
        t = as_time(t, x)
        alpha, std = expand(self.mean_coefficient(t), x), expand(self.std(t), x)
        # Not std.square(): in float16 the square of 1e-4 is 0, and that of 300 infinite.
        return self.uncentered((self.centered(x) + std * (std * score)) / alpha)

    # -- the law at T from which a sampler starts --------------------------------------------------

    @property
    def prior_mean(self) -> Parameter:
        """Mean of the law at T: ``offset``."""
        return self.offset

    @property
    def prior_std(self) -> Parameter:
        """Std of the law at T: sigma(T), that of a path from ``offset``."""
        std = self.std(torch.tensor(self.T, dtype=torch.float64))
        return float(std) if std.ndim == 0 and not std.requires_grad else std

    def prior_sample(
        self,
        shape: tuple[int, ...],
        *,
        seed: int,
        first_sample: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        backend: str = "auto",
    ) -> Tensor:
        """Draws of the law at T, of shape (B, D...), sample ``first_sample`` first."""
        z = sdekit_kernels.normal(
            shape,
            seed=seed,
            stream=keys.PRIOR,
            first_sample=first_sample,
            dtype=dtype,
            device=device,
            backend=backend,
        )
        return self.uncentered(at(self.prior_std, z) * z)

    def prior_log_prob(self, x: Tensor) -> Tensor:
        """Log-density of the law at T, in nats, summed over the event: (B, D...) to (B,)."""
        y = self.centered(check_batched(x))
        std = self.prior_std
        scale = at(std, x) if isinstance(std, Tensor) else torch.full_like(x[:1], std)
        return event_sum(log_normal_density(y, torch.as_tensor(scale)))

    # -- steps of samplers, from t to t_next < t ---------------------------------------------------

    def reverse_diffusion_coefficients(self, t: Time, t_next: Time) -> Coefficients:
        """(A, B, C) of y_next = A y + B score + C z: Euler's step of the reverse-time SDE.

        A = 1 - a(t) dt, B = g(t)^2 dt, C = g(t) sqrt(dt), with dt = t - t_next > 0: the reverse
        diffusion predictor of Song et al. 2021 (arXiv 2011.13456, appendix E) for an equation
        that is discretized by Euler's rule. VP and VE have discretizations of their own.
        """
        t, t_next = time_pair(t, t_next)
        (dt,) = self._aligned(t - t_next)
        variance = self.diffusion_rate(t).square() * dt
        return 1.0 - self.drift_rate(t) * dt, variance, variance.sqrt()

    def ancestral_coefficients(self, t: Time, t_next: Time) -> Coefficients:
        r"""(A, B, C) of y_next = A y + B score + C z: the exact Gaussian posterior.

        q(y_next | y_t, y_0) with y_0 replaced by Tweedie's (y + sigma(t)^2 score) / alpha(t).
        With r = exp(\int_{t_next}^t a) and v the variance of y_t given y_next:
        A = 1 / r, B = v / r, C = sqrt(v) sigma(t_next) / sigma(t). C is 0 at t_next = 0, and for a
        component without noise, where sigma is 0 at all times.
        """
        t, t_next = time_pair(t, t_next)
        ratio = self.log_mean_ratio(t_next, t).exp()
        variance = self.transition_variance(t_next, t)
        std = self.std(t)
        shrink = torch.where(std > 0.0, self.std(t_next) / std, 0.0)
        return 1.0 / ratio, variance / ratio, variance.sqrt() * shrink

    def langevin_alpha(self, t: Time, t_next: Time) -> Tensor:
        """The factor alpha of the Langevin corrector's step size: 1 (Song et al. 2021, App. G)."""
        t, t_next = time_pair(t, t_next)
        return torch.ones_like(t - t_next)

    def check_grid(self, times: Tensor) -> None:
        """Checks once, before a sampler runs, that its steps are small enough.

        ``times`` (N + 1,) decreases from the noise to the data. Raises ValueError that says how
        many steps are needed; equations whose coefficients exist for any step accept every grid.
        """

    def _elapsed(self, s: Time, t: Time) -> Tensor:
        """``t`` - s, to meet the parameters."""
        s, t = time_pair(s, t)
        (tau,) = self._aligned(t - s)
        return tau

    def _aligned(self, *times: Tensor) -> tuple[Tensor, ...]:
        """Times, viewed (B, 1, .., 1) if there are per component parameters to meet them."""
        if self.event_shape is None:
            return times
        ones = [1] * len(self.event_shape)
        return tuple(t.view(-1, *ones) if t.ndim == 1 else t for t in times)
