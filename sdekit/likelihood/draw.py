r"""Draws of a flow together with their exact log-density: the likelihood's ODE, taken backwards.

With z a draw of the prior, and dx/dt = F(t, x) solved from x = z at t_prior to t_data,

    log q(x) = log prior(z) - \int_{t_prior}^{t_data} div F(t, x_t) dt,

the same number as log_likelihood's at x, whose integral runs the other way (Chen et al. 2018). q is
the law of what is drawn, so it is exact whether or not the prior is that of the data at t_prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor

from sdekit.likelihood.flow import Flow
from sdekit.likelihood.importance import Importance, importance_weights
from sdekit.likelihood.latent import check_latent, draw_prior
from sdekit.likelihood.likelihood import log_likelihood
from sdekit.likelihood.result import Stats
from sdekit.likelihood.right_side import SMALL
from sdekit.ode.solution import NONFINITE, OK

__all__ = ["FlowSamples", "sample_flow"]

# What else may be said of the solve; log_likelihood checks it.
_OPTIONS: Final = (
    "probes",
    "std_error",
    "max_probes",
    "max_steps",
    "derivative",
    "memory",
    "chunk",
    "ode",
    "backend",
    "fuse",
)


@dataclass(frozen=True, slots=True)
class FlowSamples:
    """What ``sample_flow`` drew, one entry a sample.

    x: (B, D...) at t_data. log_prob: (B,) nats, log q(x). std_error: (B,) nats, the standard error
    that the probes say log_prob has; 0 for the exact divergence, NaN for a single probe. status:
    (B,) int8, as in ``Likelihood``; where it is not 0, x and log_prob are NaN. nfe: (B,) int64,
    evaluations of the field. latent: (B, D...), the draws z of the prior. stats: see ``Stats``.
    ``log_likelihood(flow, x).error`` is the error budget of log_prob.
    """

    x: Tensor
    log_prob: Tensor
    std_error: Tensor
    status: Tensor
    nfe: Tensor
    latent: Tensor
    stats: Stats

    def importance(self, target: Callable[[Tensor], Tensor]) -> Importance:
        """Weights target / q that make these the samples of ``target``, see ``Importance``.

        target: x (B, D...) -> log-density (B,) in nats, up to a constant.
        """
        return importance_weights(target, self.x, self.log_prob, self.std_error)


@torch.no_grad()
def sample_flow(
    sde: Any,
    score: Any = None,
    shape: Any = None,
    *,
    seed: int = 0,
    first_sample: int = 0,
    latent: Tensor | None = None,
    divergence: str = "exact",
    n_probes: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "tsit5",
    t_min: float | None = None,
    t_max: float | None = None,
    prior: Any = None,
    breaks: Sequence[float] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    **options: Any,
) -> FlowSamples:
    r"""Draws x of the probability flow of ``sde``, or of a ``Flow``, with their log q(x) in nats.

    Args:
        sde, score: as for log_likelihood; of a Flow it is sample_flow(flow, shape).
        shape: (B, D...), or B alone where the prior or the SDE's parameters know the event.
        seed, first_sample: of the draws of the prior and of the divergence's probes; sample
            ``first_sample + k`` of a seed is the same however the batch is split.
        latent: (B, D...), the z to start from. Without it the SDE's own prior gives
            ``sde.prior_sample`` (stream PRIOR, as for ``sdekit.sample``), and any other prior
            ``prior.sample(B, seed=seed)``, which needs a ``first_sample`` only where one is given.
        divergence, n_probes, rtol, atol, method: as for log_likelihood, which takes the
            way there; so do t_min, t_max, prior, breaks (a Flow says them itself), and probes,
            std_error, max_probes, max_steps, derivative, memory, chunk, ode, backend, fuse.
        dtype, device: of z; those of the prior's draws, or float32 on the CPU.

    No gradients flow through. Raises TypeError for a prior that cannot be drawn from, TypeError or
    ValueError for arguments out of their range or of the wrong shape, saying what to write. A
    sample that leaves the finite numbers is reported in ``status``; the others are unharmed.
    """
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise TypeError(
            f"sample_flow takes no {unknown[0]!r}: of the solve it takes {', '.join(_OPTIONS)}"
        )
    if isinstance(sde, Flow) and shape is None:
        score, shape = None, score
    flow = Flow.of(sde, score, t_min=t_min, t_max=t_max, prior=prior, breaks=breaks)
    if latent is None:
        latent = draw_prior(flow, shape, seed, first_sample, dtype, device)
    else:
        check_latent(latent, shape, dtype, device)
    back = log_likelihood(
        _turned(flow),
        latent,
        seed=seed,
        first_sample=first_sample,
        divergence=divergence,
        n_probes=n_probes,
        rtol=rtol,
        atol=atol,
        method=method,
        **options,
    )
    # As the likelihood does it: sums of many components in float64.
    z = latent.double() if latent.shape[1:].numel() > SMALL else latent
    log_prob = (flow.log_prior(z) - back.log_prob).to(latent.dtype)
    status = torch.where((back.status == OK) & ~log_prob.isfinite(), NONFINITE, back.status)
    lost = status != OK
    return FlowSamples(
        x=back.latent.masked_fill(lost.view(-1, *[1] * (latent.ndim - 1)), math.nan),
        log_prob=log_prob.masked_fill(lost, math.nan),
        std_error=back.std_error.masked_fill(lost, math.nan),
        status=status.to(torch.int8),
        nfe=back.nfe,
        latent=latent.detach(),
        stats=back.stats,
    )


@final
class _Nothing:
    """A log-density of 0, with which a likelihood is the integral of the divergence alone."""

    def log_prob(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0])


def _turned(flow: Flow) -> Flow:
    """The flow with its ends exchanged."""
    turned = Flow(
        flow.field,
        _Nothing(),
        t_data=flow.t_prior,
        t_prior=flow.t_data,
        divergence=flow.divergence,
        breaks=flow.breaks,
    )
    turned.sde, turned.score = flow.sde, flow.score
    return turned
