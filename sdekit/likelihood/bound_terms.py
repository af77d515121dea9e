"""The terms of the variational bound: one pair of paths, the volume, the prior.

Notation as in ``sde_elbo.py``: x_t = mean + sigma z, the transition from the bound's first time.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.likelihood.pointwise import ScoreLike, score_at
from sdekit.sde import AffineSDE, expand
from sdekit.sde.parameters import event_sum

__all__ = ["BoundTerms"]


@final
class BoundTerms:
    """The terms of the bound for the samples x (B, D...), each (B,) in float64.

    Rows are the samples, one or more times over. Coefficients are those of the transition from
    ``start``; the score sees x's own dtype.
    """

    def __init__(
        self, sde: AffineSDE, score: ScoreLike, x: Tensor, start: float, variance: float
    ) -> None:
        self.sde, self.score, self.start, self.variance = sde, score, start, variance
        self.x, self.y = x, sde.centered(x).double()

    def pair(self, t: Tensor, z: Tensor, weight: Tensor | None) -> Tensor:
        """The mean over z and -z of sum weight (|s|^2 + 2 s . z / sigma + control), (rows,).

        t: (rows,), z: (rows, D...). weight: of the components, sigma^2 if None.
        """
        alpha, var = self._transition(t, z)
        mean, std = alpha * self._rows(self.y, z), var.sqrt()
        weight = var if weight is None else weight
        # A component without noise has g = 0 and no term: its z / sigma must not be infinite.
        inverse = torch.where(std > 0.0, 1.0 / std, 0.0)
        kept = alpha.square() * self.variance
        control = (1.0 - (kept / (kept + var)).square()) * inverse.square()
        total = weight * control * (z.square() - 1.0)
        for sign in (0.5, -0.5):
            place = self.sde.uncentered(mean + 2.0 * sign * std * z).to(self.x.dtype)
            s = score_at(self.score, t, place)
            total = total + weight * (0.5 * s.square() + 2.0 * sign * s * z * inverse)
        return event_sum(total)

    def log_volume(self, end: float) -> Tensor:
        r"""\int div f dt = sum over components of log alpha from ``start`` to ``end``, 0-d."""
        start, last = self._ends(end)
        return self.sde.log_mean_ratio(start, last).expand_as(self.y[:1]).sum()

    def default_prior(self, end: float) -> Tensor:
        """E log prior(x_T) of the SDE's own Gaussian prior: at the mean, less sigma^2 / 2 pi^2."""
        start, last = self._ends(end)
        mean = self.sde.log_mean_ratio(start, last).exp() * self.y
        std = torch.as_tensor(self.sde.prior_std, dtype=torch.float64, device=self.x.device)
        spread = (self.sde.transition_variance(start, last) / std.square()).expand_as(self.y[:1])
        return self.sde.prior_log_prob(self.sde.uncentered(mean)).double() - 0.5 * spread.sum()

    def prior_mean(self, law: Any, end: float, z: Tensor) -> Tensor:
        """The mean of log prior(x_T) over z and -z, (rows,)."""
        alpha, var = self._transition(torch.full_like(z.flatten(1)[:, 0], end), z)
        mean, noise = alpha * self._rows(self.y, z), var.sqrt() * z
        ends = [self.sde.uncentered(mean + side).to(self.x.dtype) for side in (noise, -noise)]
        value: Tensor = 0.5 * (law(ends[0]) + law(ends[1]))
        return value

    def _transition(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma^2 of the transition from ``start`` to t (rows,), to multiply z."""
        start = torch.full_like(t, self.start)
        alpha = self.sde.log_mean_ratio(start, t).exp()
        return expand(alpha, z), expand(self.sde.transition_variance(start, t), z)

    def _ends(self, end: float) -> tuple[Tensor, Tensor]:
        ends = torch.tensor([self.start, end], dtype=torch.float64, device=self.x.device)
        return ends[0], ends[1]

    @staticmethod
    def _rows(y: Tensor, z: Tensor) -> Tensor:
        """y, as many times over as z has rows for it."""
        return y.repeat(z.shape[0] // max(1, y.shape[0]), *[1] * (y.ndim - 1))
