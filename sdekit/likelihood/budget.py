"""The error budget of a likelihood: what each of its four approximations may have done to it.

    log p_0(x) = log_prob  -  solver  +-  probe  -  truncation  -  prior

Each part is computed when it is first asked for, since some cost evaluations of their own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from sdekit.likelihood.divergence import make_divergence
from sdekit.likelihood.elbo import variational_bound
from sdekit.likelihood.prior_gap import prior_gap
from sdekit.likelihood.truncation import flow_truncation_error, truncation_error
from sdekit.sde import AffineSDE

if TYPE_CHECKING:
    from sdekit.likelihood.solve import Ask

__all__ = ["ErrorBudget"]

_FINER = 0.1


@final
class ErrorBudget:
    """The four errors of ``log_prob``, each (B,) nats, NaN where a sample has no likelihood.

    solver: log_prob minus its value at a tenth of the tolerances, which is another solve: the error
    of the looser one, up to a tenth. probe: the standard error of the probes, 0 for the exact
    divergence. truncation: log p_{t_min}(x) - log p_0(x), since x is taken as a draw at t_min, see
    ``truncation_error``. prior: log prior(x_T) - log p_T(x_T), since the prior is not the law that
    the data has at t_max, see ``prior_gap``; ``prior_std_error`` is that of its Monte Carlo part.
    bound: beside them, the variational bound of log p_{t_min}(x) by the SDE and its standard error.
    The last three trust the score; they raise TypeError for a flow that is not a diffusion's.
    ``log_prob - truncation - prior`` is the estimate of log p_0(x) that is free of both.
    """

    def __init__(
        self, ask: Ask, x: Tensor, log_prob: Tensor, std_error: Tensor, latent: Tensor
    ) -> None:
        self._ask, self._x, self._latent = ask, x, latent
        self._log_prob, self.probe = log_prob, std_error

    def __repr__(self) -> str:
        known = [name for name in ("solver", "truncation", "_prior") if name in self.__dict__]
        return f"ErrorBudget(probe, computed: {known})"

    @cached_property
    def solver(self) -> Tensor:
        """log_prob minus its value at a tenth of the tolerances, with the same probes."""
        from sdekit.likelihood.solve import solve_likelihood

        ask = self._ask
        least = 8.0 * torch.finfo(self._x.dtype).eps
        finer = replace(
            ask, rtol=max(_FINER * ask.rtol, least), atol=_FINER * ask.atol, std_error=None
        )
        finer = replace(finer, max_steps=4 * ask.max_steps)
        if ask.std_error is not None:
            # What both have in common is what one set of probes gives.
            loose = solve_likelihood(replace(ask, std_error=None), self._x, None).log_prob
        else:
            loose = self._log_prob
        return loose - solve_likelihood(finer, self._x, None).log_prob

    @cached_property
    def truncation(self) -> Tensor:
        """log p_{t_min}(x) - log p_0(x), estimated."""
        sde, score, start = self._diffusion("truncation")
        divergence = getattr(score, "divergence", None)
        if not callable(divergence):
            divergence = self._divergence_of(score)
        if isinstance(sde, AffineSDE) and sde.event_shape is None:
            return truncation_error(sde, score, self._x, divergence, t_min=start)
        field = self._ask.flow.field
        return flow_truncation_error(field, score, self._x, self._divergence_of(field), t_min=start)

    @cached_property
    def bound(self) -> tuple[Tensor, Tensor]:
        """(a lower bound of log p_{t_min}(x), its standard error), by the SDE: see
        ``variational_bound``; it lies below log_prob by what the score is not exact.
        """
        sde, score, start = self._diffusion("bound")
        flow = self._ask.flow
        return variational_bound(
            sde,
            score,
            self._x,
            t_min=start,
            t_max=flow.t_prior,
            prior=flow.prior,
            seed=self._ask.seed,
            first_sample=self._ask.first_sample,
        )

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
        return prior_gap(
            sde, score, self._latent, prior=flow.prior, t_max=flow.t_prior, seed=self._ask.seed
        )

    def _diffusion(self, part: str) -> tuple[Any, Any, float]:
        flow = self._ask.flow
        if flow.sde is None:
            raise TypeError(
                f"error.{part} is of a diffusion's probability flow; this Flow is exact at both "
                "ends: its data is at t_data and its prior is the law at t_prior"
            )
        return flow.sde, flow.score, flow.t_data

    def _divergence_of(self, field: Any) -> Any:
        """(t, x) -> (B,), by the estimator that the likelihood was asked with."""
        ask = self._ask

        def divergence(t: Tensor, x: Tensor) -> Tensor:
            estimator = make_divergence(
                ask.divergence,
                x,
                n_probes=ask.n_probes,
                probes=ask.probes,
                seed=ask.seed,
                first_sample=ask.first_sample,
                derivative=ask.derivative,
                memory=ask.memory,
                chunk=ask.chunk,
            )
            return estimator.combine(estimator(lambda x: field(t, x), x)[1])[0]

        return divergence
