r"""A flow: an ordinary differential equation that carries a known law to the law of data.

    dx/dt = F(t, x),   d log p_t(x_t) / dt = -div F(t, x_t)

along a path (Chen et al. 2018, "instantaneous change of variables"). A continuous normalizing flow
gives F; of a diffusion with a score it is the probability flow, F = f - (div(G G^T) + G G^T s) / 2
(Song et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from sdekit.likelihood.pointwise import own_prior
from sdekit.sde import AffineSDE, ProbabilityFlow, check_output, expand
from sdekit.sde.parameters import event_sum

__all__ = ["Flow"]

Field = Callable[[Tensor, Tensor], Tensor]


@final
class Flow:
    """dx/dt = field(t, x) between the law of data at ``t_data`` and ``prior`` at ``t_prior``.

    field: (t, x (B, D...)) -> dx/dt of x's shape; t is one time a sample, (B,), or 0-d. Row i may
    depend on row i of x alone. prior: an object with log_prob(x) -> (B,) nats, and, for draws,
    sample(n, seed=...). divergence: the field's divergence (t, x) -> (B,) where it is known in
    closed form. breaks: times at which the field is not smooth. Either end may be the later one.
    Raises TypeError or ValueError for what is not callable, and for times that are not two finite
    numbers.
    """

    def __init__(
        self,
        field: Field,
        prior: Any,
        *,
        t_data: float = 0.0,
        t_prior: float = 1.0,
        divergence: Field | None = None,
        breaks: Sequence[float] = (),
    ) -> None:
        if not callable(field):
            raise TypeError(f"field must be callable as field(t, x), got {type(field).__name__}")
        if divergence is not None and not callable(divergence):
            raise TypeError("divergence must be callable as divergence(t, x) -> (B,), or None")
        if not callable(getattr(prior, "log_prob", None)):
            raise TypeError(f"prior must have log_prob(x), got {type(prior).__name__}")
        self.t_data, self.t_prior = float(t_data), float(t_prior)
        if not (math.isfinite(self.t_data + self.t_prior) and self.t_data != self.t_prior):
            raise ValueError(
                f"t_data and t_prior must be two finite times, got {t_data} and {t_prior}"
            )
        self._field, self._given_prior, self.divergence = field, prior, divergence
        self.breaks = tuple(float(b) for b in breaks)
        self.sde: Any = None
        self.score: Any = None
        self._joint: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    @classmethod
    def of(cls, sde: Any, score: Any = None, **ends: Any) -> Flow:
        """``sde`` if it is a flow, else ``from_score(sde, score, **ends)``.

        Raises TypeError for a flow together with what it says itself: a score or ends.
        """
        if not isinstance(sde, cls):
            return cls.from_score(sde, score, **ends)
        given = [name for name, v in {"score": score, **ends}.items() if v is not None]
        if given:
            raise TypeError(f"a Flow says itself what {given[0]} says: leave {given[0]}= away")
        return sde

    @classmethod
    def from_score(
        cls,
        sde: Any,
        score: Any,
        *,
        t_min: float | None = None,
        t_max: float | None = None,
        prior: Any = None,
        breaks: Sequence[float] | None = None,
    ) -> Flow:
        """The probability flow of ``sde`` under ``score``, data at t_min and the prior at t_max.

        By default t_min is ``sde.t_min_likelihood``, t_max is ``sde.T``, and the prior is the
        ``sde.prior_log_prob`` of that time. A score with a ``divergence(t, x)`` of its own, under
        an affine SDE with the same coefficients for all components, gives the flow's in closed
        form: div F = D a - g^2 div s / 2.
        """
        start, end = _times(sde, t_min, t_max)
        probability_flow = ProbabilityFlow(sde, score)
        closed = None
        if (
            isinstance(sde, AffineSDE)
            and sde.event_shape is None
            and callable(getattr(score, "divergence", None))
        ):
            closed = _closed_form(sde, score)
        stops = tuple(getattr(sde, "breaks", ()) if breaks is None else breaks)
        flow = cls(
            probability_flow.drift,
            _Prior(sde, end) if prior is None else prior,
            t_data=start,
            t_prior=end,
            divergence=closed,
            breaks=stops,
        )
        flow.sde, flow.score = sde, score
        if closed is not None and callable(getattr(score, "with_divergence", None)):
            flow._joint = _joint_form(sde, score)
        return flow

    @property
    def prior(self) -> Any:
        """The law at t_prior."""
        return self._given_prior

    def field(self, t: Tensor, x: Tensor) -> Tensor:
        """dx/dt, of x's shape and type; raises ValueError for a field of another shape."""
        return check_output("the flow's field", self._field(t, x), x)

    def with_divergence(
        self, t: Tensor, x: Tensor, field: Field | None = None
    ) -> tuple[Tensor, Tensor]:
        """(dx/dt, its divergence in closed form), together where that costs less.

        field: stands in for the flow's, if it was made to take other times.
        """
        assert self.divergence is not None
        if self._joint is not None and field in (None, self.field):
            return self._joint(t, x)
        return (self.field if field is None else field)(t, x), self.divergence(t, x)

    def log_prior(self, x: Tensor) -> Tensor:
        """Log-density at t_prior, (B,) nats; raises ValueError for another shape."""
        value = self.prior.log_prob(x)
        if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"log_prob of the prior must return one number a sample, {tuple(x.shape[:1])}, "
                f"got {given}: torch.distributions.Independent sums over components"
            )
        return value.to(x.dtype)


@final
class _Prior:
    """An SDE's own law at T."""

    def __init__(self, sde: Any, end: float) -> None:
        self.sde, self.log_prob = sde, own_prior(sde, end)


def _joint_form(sde: AffineSDE, score: Any) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def joint(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        s, laplacian = score.with_divergence(t, x)
        rate, g = expand(sde.drift_rate(t), x), sde.diffusion_rate(t).square()
        slope = rate * sde.centered(x) - 0.5 * expand(g, x) * s
        return slope, event_sum(rate + torch.zeros_like(x)) - 0.5 * g * laplacian

    return joint


def _closed_form(sde: AffineSDE, score: Any) -> Field:
    def divergence(t: Tensor, x: Tensor) -> Tensor:
        rate = event_sum(expand(sde.drift_rate(t), x) + torch.zeros_like(x))
        g = sde.diffusion_rate(t)
        value: Tensor = rate - 0.5 * g.square() * score.divergence(t, x)
        return value

    return divergence


def _times(sde: Any, t_min: Any, t_max: Any) -> tuple[float, float]:
    for name, given, attribute in (("t_min", t_min, "t_min_likelihood"), ("t_max", t_max, "T")):
        if given is None and not hasattr(sde, attribute):
            raise TypeError(
                f"{type(sde).__name__} has no {attribute}: write log_likelihood(..., {name}=...)"
            )
    start = float(sde.t_min_likelihood if t_min is None else t_min)
    end = float(sde.T if t_max is None else t_max)
    if not 0.0 <= start < end < math.inf:
        raise ValueError(f"times must be 0 <= t_min < t_max, finite, got {start} and {end}")
    return start, end
