r"""Which times the variational bound looks at.

n(t) = sigma^2 / alpha^2 is the noise in units of the data, of variance v. As dn/dt = g^2 / alpha^2,
with psi(t) = log(v + n(t)) - log(v + n(first))

    \int g^2 h dt = \int (g^2 / psi') h dpsi,    g^2 / psi' = alpha^2 v + sigma^2,

so that neither g nor its singularities appear. For Gaussian data of variance v the integrand's mean
is even in psi, from 0 to Psi, about 10; but what the control of ``bound_terms.py`` leaves of its
noise falls as exp(-2 psi), so that uniform psi would spend one draw in 15 where all the noise is.
Hence times that follow exp(-psi) are mixed in. Data of which some components hardly vary, such as
the background of images, have an integrand of order one per unit of log n down to their own
variance, where neither of the two ever looks: 28 x 28 digits came out 4,000 nats off. So a third of
the times is uniform in

    lambda(t) = log(e + n(t)) - log(e + n(first)),   e = sigma^2 at the start of the transition,

the logarithm of all noise since time 0, and no weight is more than three times that of the best of
the three laws:

    share = 1/3 psi / Psi + 1/3 (1 - exp(-psi)) / (1 - exp(-Psi)) + 1/3 lambda / Lambda.

Where there is no noise at the first time, Lambda is infinite, and the first two have halves.

Where parameters are per component, n is the mean over components, and the weight of one is
g_i^2 (v + n) / mean(g^2 / alpha^2) in place of alpha^2 v + sigma^2.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from sdekit.sde import AffineSDE, expand

__all__ = ["BoundTimes"]


@final
class BoundTimes:
    r"""t = Q(u) for u in [0, 1], and weights w with \int_first^end g^2 h dt = E_u[w h(Q(u))].

    alpha and sigma are those of the transition from ``start`` <= first; variance: v.
    """

    def __init__(
        self,
        sde: AffineSDE,
        start: float,
        first: float,
        end: float,
        variance: float,
        device: torch.device,
    ) -> None:
        self.sde, self.start, self.variance = sde, start, variance
        self.ends = torch.tensor([first, end], dtype=torch.float64, device=device)
        self.lowest = (variance + self._noise(self.ends[:1])).log()
        self.span = self._psi(self.ends[1:])
        begin = torch.tensor([start], dtype=torch.float64, device=device)
        since_zero = sde.transition_variance(torch.zeros_like(begin), begin)
        self.before = _component_mean(since_zero, begin)
        self.least = self.before + self._noise(self.ends[:1])
        self.wide = bool(self.least > 0.0)
        self.third = 1.0 / 3.0 if self.wide else 0.0

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u), (B,) in float64."""
        low, high = (end.expand_as(u).clone() for end in self.ends)
        # 60 halvings: to the rounding of float64 from any span.
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = self._share(middle) < u
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return 0.5 * (low + high)

    def weight(self, t: Tensor, z: Tensor) -> Tensor:
        """w at times t (B,), to multiply z (B, D...)."""
        return self._rate(t, z) / expand(self._density(t), z)

    def excess(self, t: Tensor) -> Tensor:
        r"""dpsi/du - Psi at times t, (B,), of mean 0 over u.

        For Gaussian data of variance v a component's integrand has the mean -1 / (alpha^2 v +
        sigma^2), -1 per unit of psi: less this, it varies no more with u.
        """
        return 1.0 / self._density(t) - self.span

    def _density(self, t: Tensor) -> Tensor:
        """du/dpsi, (B,)."""
        near = (-self._psi(t)).exp() / -torch.expm1(-self.span)
        density = 0.5 * (1.0 - self.third) * (1.0 / self.span + near)
        if self.wide:
            noise = self._noise(t)
            change = (self.variance + noise) / (self.before + noise)  # dlambda/dpsi
            density = density + self.third * change / self._lambda(self.ends[1:])
        return density

    def _psi(self, t: Tensor) -> Tensor:
        """psi(t), (B,)."""
        return (self.variance + self._noise(t)).log() - self.lowest

    def _share(self, t: Tensor) -> Tensor:
        """The part of the times below t."""
        psi = self._psi(t)
        near = torch.expm1(-psi) / torch.expm1(-self.span)
        share = 0.5 * (1.0 - self.third) * (psi / self.span + near)
        if self.wide:
            share = share + self.third * self._lambda(t) / self._lambda(self.ends[1:])
        return share

    def _lambda(self, t: Tensor) -> Tensor:
        """lambda(t), (B,)."""
        return ((self.before + self._noise(t)) / self.least).log()

    def _noise(self, t: Tensor) -> Tensor:
        """n(t), (B,)."""
        return _component_mean(self._variance(t) / self._scale(t), t)

    def _rate(self, t: Tensor, z: Tensor) -> Tensor:
        """g^2 / psi' of each component."""
        scale = self._scale(t)
        if self.sde.event_shape is None:
            return expand(scale * self.variance + self._variance(t), z)
        squared = self.sde.diffusion_rate(t).square()
        whole = (self.variance + self._noise(t)) / _component_mean(squared / scale, t)
        return expand(squared, z) * expand(whole, z)

    def _scale(self, t: Tensor) -> Tensor:
        """alpha^2."""
        return (2.0 * self.sde.log_mean_ratio(torch.full_like(t, self.start), t)).exp()

    def _variance(self, t: Tensor) -> Tensor:
        """sigma^2."""
        return self.sde.transition_variance(torch.full_like(t, self.start), t)


def _component_mean(value: Tensor, t: Tensor) -> Tensor:
    """The mean over components, if there are any, for each entry of t (B,)."""
    return value.flatten(1).mean(1).expand_as(t) if value.ndim > 1 else value
