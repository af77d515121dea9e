"""The error budget of a likelihood: what each of its four approximations may have done to it.

    log p_0(x) = log_prob  -  solver  +-  probe  -  truncation  -  prior

Each part is computed when it is first asked for, since some cost evaluations of their own.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from sdekit.likelihood.prior_gap import prior_gap
from sdekit.likelihood.sde_elbo import elbo
from sdekit.likelihood.tolerances import least_tolerance
from sdekit.likelihood.truncation import truncation_error
from sdekit.ode.solution import OK
from sdekit.sde import AffineSDE

if TYPE_CHECKING:
    from sdekit.likelihood.solve import Ask

__all__ = ["ErrorBudget"]

_FINER = 0.1
# Of the tolerances: above it, a solve that x's type allows is not finer enough to tell an error.
_ENOUGH = 0.4
# Of t_min: noise whose variance grows as t leaves a hundredth of the truncation there.
_EARLIER = 0.01


@final
class ErrorBudget:
    """The four errors of ``log_prob``, each (B,) nats, NaN where a sample has no likelihood.

    solver: log_prob minus its value at a tenth of the tolerances, which is another solve: the error
    of the looser one, up to a tenth; or at ten times as much, where x's type allows no less.
    probe: the standard error of the probes, 0 for the exact divergence.
    truncation: log p_{t_min}(x) - log p_0(x), since x is taken as a draw at t_min: see
    ``truncation_error`` for a score with a ``divergence`` of its own, and for others the same ODE
    from t_min / 100, another solve. prior: log prior(x_T) - log p_T(x_T), since the prior is not
    the law that the data has at t_max, see ``prior_gap``; ``prior_std_error`` is that of its Monte
    Carlo part. bound: beside them, the variational bound of log p_{t_min}(x) by the SDE and its
    standard error.
    The last three trust the score; they raise TypeError for a flow that is not a diffusion's.
    ``log_prob - truncation - prior`` is the estimate of log p_0(x) that is free of both.
    Over draws of p_0 the exact truncation has the mean -KL(p_0 || p_{t_min}) <= 0: where its mean
    over data is above zero by more than its standard error, model and data do not agree.

    ask: with the probes that ``base``, a log_prob for each sample, was found by.
    """

    def __init__(
        self,
        ask: Ask,
        x: Tensor,
        log_prob: Tensor,
        std_error: Tensor,
        latent: Tensor,
        status: Tensor,
        base: Tensor,
    ) -> None:
        self._ask, self._x, self._latent, self._base = ask, x, latent, base
        self._lost = (status != OK) | ~log_prob.isfinite()
        self.probe = std_error

    def __repr__(self) -> str:
        known = [name for name in ("solver", "truncation", "_prior") if name in self.__dict__]
        return f"ErrorBudget(probe, computed: {known})"

    @cached_property
    def solver(self) -> Tensor:
        """log_prob minus its value at a tenth of the tolerances, with the same probes.

        Where x's type does not allow that, in float32 below some 2.5e-6: a ninth of what ten times
        the tolerances add to the error, which follows them down to the rounding.
        """
        ask, least = self._ask, least_tolerance(self._x.dtype)
        rtol, atol = (max(_FINER * tol, least) for tol in (ask.rtol, ask.atol))
        if rtol + atol <= _ENOUGH * (ask.rtol + ask.atol):
            finer = replace(ask, rtol=rtol, atol=atol, max_steps=4 * ask.max_steps)
            return self._base_less(finer)
        looser = replace(ask, rtol=ask.rtol / _FINER, atol=ask.atol / _FINER)
        return self._base_less(looser) / (1.0 - 1.0 / _FINER)

    @cached_property
    def truncation(self) -> Tensor:
        """log p_{t_min}(x) - log p_0(x), estimated."""
        sde, score, start = self._diffusion("truncation")
        closed = getattr(score, "divergence", None)
        if callable(closed) and isinstance(sde, AffineSDE) and sde.event_shape is None:
            return self._known(truncation_error(sde, score, self._x, closed, t_min=start))
        # The score of a network is no gradient of its flow's density: its residual at t_min, a
        # relative error of the noise that it predicts, gives |s|^2 some 0.4 nats an image that the
        # flow does not have. So the flow itself is asked.
        earlier = copy(self._ask.flow)
        earlier.t_data = _EARLIER * start
        return self._base_less(replace(self._ask, flow=earlier))

    def _base_less(self, ask: Ask) -> Tensor:
        """The likelihood as it was asked for, minus that of another ask with the same probes."""
        from sdekit.likelihood.solve import solve_likelihood

        return self._known(self._base - solve_likelihood(ask, self._x, None).log_prob)

    def _known(self, part: Tensor) -> Tensor:
        """NaN where the sample has no likelihood."""
        return torch.where(self._lost, math.nan, part)

    @cached_property
    def bound(self) -> tuple[Tensor, Tensor]:
        """(a lower bound of log p_{t_min}(x), its standard error), by the SDE: see
        ``elbo``; it lies below log_prob by what the score is not exact.
        """
        sde, score, start = self._diffusion("bound")
        flow = self._ask.flow
        value, error = elbo(
            sde,
            score,
            self._x,
            t_min=start,
            t_max=flow.t_prior,
            prior=flow.prior,
            seed=self._ask.seed,
            first_sample=self._ask.first_sample,
        )
        return self._known(value), self._known(error)

    @property
    def prior(self) -> Tensor:
        """log prior(x_T) - log p_T(x_T), estimated."""
        return self._prior[0]

    @property
    def prior_std_error(self) -> Tensor:
        """Standard error of ``prior``."""
        return self._prior[1]

    @cached_property
    def _prior(self) -> tuple[Tensor, Tensor]:
        sde, score, _ = self._diffusion("prior")
        flow = self._ask.flow
        if not (hasattr(sde, "prior_mean") and hasattr(sde, "prior_std")):
            raise TypeError(
                f"{type(sde).__name__} has no prior_mean and prior_std, about which error.prior "
                "would draw: if prior= is the law at t_max itself, this part is 0; else write "
                "sdekit.likelihood.prior_gap(sde, score, found.latent, prior=prior, t_max=t_max, "
                "around=(mean, std)) with mean and std of the law at t_max"
            )
        gap, error = prior_gap(
            sde, score, self._latent, prior=flow.prior, t_max=flow.t_prior, seed=self._ask.seed
        )
        return self._known(gap), error

    def _diffusion(self, part: str) -> tuple[Any, Any, float]:
        flow = self._ask.flow
        if flow.sde is None:
            raise TypeError(
                f"error.{part} is of a diffusion's probability flow; this Flow is exact at both "
                "ends: its data is at t_data and its prior is the law at t_prior"
            )
        return flow.sde, flow.score, flow.t_data
