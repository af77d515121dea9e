r"""Log-likelihoods by the flow that carries data to a known law.

Chen et al. 2018; for score models Song et al. 2021, arXiv 2011.13456, appendix D:

    log p_data(x) = log p_prior(x_T) + \int_{t_data}^{t_prior} div F(t, x_t) dt,   dx/dt = F(t, x)

one ODE a sample for its state and the integral together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from torch import Tensor

from sdekit.likelihood.divergence import DERIVATIVES, KINDS, MEMORY, PROBES
from sdekit.likelihood.flow import Flow
from sdekit.likelihood.pointwise import check_points
from sdekit.likelihood.result import Likelihood
from sdekit.likelihood.rounds import LEAST
from sdekit.likelihood.solve import Ask, solve_likelihood
from sdekit.likelihood.tolerances import check_accuracy
from sdekit.likelihood.torchdiffeq_backend import METHODS as TORCHDIFFEQ
from sdekit.likelihood.transform import DataTransform
from sdekit.ode import TABLEAUS

__all__ = ["log_likelihood"]


@torch.no_grad()
def log_likelihood(
    sde: Any,
    score: Any = None,
    x: Tensor | None = None,
    *,
    divergence: str = "exact",
    probes: str | None = None,
    n_probes: int = 1,
    std_error: float | None = None,
    max_probes: int = 4096,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    t_min: float | None = None,
    t_max: float | None = None,
    prior: Any = None,
    seed: int = 0,
    first_sample: int = 0,
    transform: DataTransform | None = None,
    method: str | None = None,
    max_steps: int = 10_000,
    breaks: Sequence[float] | None = None,
    derivative: str = "reverse",
    memory: int = MEMORY,
    chunk: int | None = None,
    ode: str = "sdekit",
    backend: str = "auto",
    fuse: bool | None = None,
) -> Likelihood:
    r"""log p(x) = log p_T(x_T) + \int div F dt along the flow, in nats, one entry a sample.

    Args:
        sde: any object with drift and diffusion of additive, diagonal or scalar noise, whose
            probability flow under ``score`` is taken; or a ``Flow``, as log_likelihood(flow, x).
        score: any callable (t, x) -> x's shape; t is one time a sample, (B,), or 0-d. Samples must
            not see each other. A score written for one time in all is mapped over the samples.
        x: (B, D...), float32 or float64.
        divergence: "exact": in closed form where the flow has one, else by D directional
            derivatives, vectorized; or an estimator, whose ``n_probes`` directions stay fixed along
            the path (stream PROBE of the seed, sample ``first_sample`` first): "hutchinson",
            "hutch++" or "xtrace", see ``sdekit.likelihood.make_divergence``.
        probes: "rademacher", "gaussian" or "orthogonal", where the estimator has a choice.
        std_error: the standard error, in nats, that each sample shall have. A first set of probes
            chooses how many, and as many others, ``max_probes`` less the first at the most, give
            the value: see ``sdekit.likelihood.rounds``. It is met by the root mean square of the
            errors; what a sample's own probes say may be above it by chance, and is told as it is.
            Where D directions would do, the exact divergence takes their place.
        rtol, atol: tolerances of the adaptive ODE: a step's error is at most atol min(sqrt(D), 8)
            nats in a sample's log-density and (atol + rtol |x|) / 10 in its state (the RMS over its
            components), to which log p is sensitive: see ``sdekit.likelihood.tolerances``. 8 eps of
            x's type at least, 9.5e-7 in float32. Each sample has steps of its own.
        t_min, t_max: the ends of the ODE; by default ``sde.t_min_likelihood`` and ``sde.T``. x is
            taken as a draw at t_min.
        prior: the law at t_max, an object with log_prob(x) -> (B,); by default
            ``sde.prior_log_prob``, the law at T, which the law of real data only approaches.
        transform: the ``DataTransform`` that made x; gives ``bits_per_dim``.
        method: "tsit5" (Tsitouras 2011, the default), "dopri5" (Dormand & Prince 1980, the default
            of torchdiffeq) or "bosh3".
        max_steps: attempted steps of a sample, after which its status is 3; torchdiffeq's are those
            of the whole batch.
        breaks: times where the coefficients are not smooth (the clip of a cosine schedule), at
            which a step has to end; by default ``sde.breaks`` if there is such a thing.
        derivative, memory, chunk: see ``sdekit.likelihood.field_divergence``.
        ode: "sdekit", or "torchdiffeq" as an oracle, with one step size for the whole batch.
        backend, fuse: see ``sdekit.ode.integrate``.

    No gradients flow through; see ``sdekit.likelihood.log_prob_with_gradient``. Raises TypeError or
    ValueError for arguments out of their range or of the wrong shape, saying what to write. A
    sample that is or becomes non-finite is reported in ``status``; the others are unharmed.
    """
    if isinstance(sde, Flow) and isinstance(score, Tensor) and x is None:
        score, x = None, score
    x = check_points(x)
    flow = Flow.of(sde, score, t_min=t_min, t_max=t_max, prior=prior, breaks=breaks)
    if transform is not None and not isinstance(transform, DataTransform):
        raise TypeError(f"transform must be a DataTransform, got {type(transform).__name__}")
    if transform is not None:
        transform.check_range(x)
        transform.check_dequantized(x)
    check_choice("divergence", divergence, KINDS)
    if probes is not None:
        check_choice("probes", probes, PROBES)
    check_choice("ode", ode, ("sdekit", "torchdiffeq"))
    check_choice("derivative", derivative, DERIVATIVES)
    methods = TORCHDIFFEQ if ode == "torchdiffeq" else tuple(TABLEAUS)
    if method is None:
        method = "dopri5" if ode == "torchdiffeq" else "tsit5"
    check_choice("method", method, methods)
    if std_error is not None and divergence == "exact":
        raise ValueError(
            "std_error is reached by probes, and the exact divergence has none: write "
            "divergence='hutchinson', 'hutch++' or 'xtrace'"
        )
    if std_error is not None:
        check_int_range("max_probes", max_probes, 1, 1 << 31)
        if max_probes < LEAST[divergence]:
            raise ValueError(
                f"{divergence} can tell its standard error from {LEAST[divergence]} probes on: "
                f"max_probes={max_probes} cannot reach std_error={std_error:g}"
            )
    rtol, atol = check_accuracy(rtol, atol, x.dtype)
    if chunk is not None:
        check_int_range("chunk", chunk, 1, 1 << 62)
    ask = Ask(
        flow=flow,
        divergence=divergence,
        probes=probes,
        n_probes=check_int_range("n_probes", n_probes, 1, 1 << 31),
        std_error=None if std_error is None else check_positive("std_error", std_error),
        max_probes=check_int_range("max_probes", max_probes, 1, 1 << 31),
        rtol=rtol,
        atol=atol,
        seed=seed,
        first_sample=first_sample,
        method=method,
        max_steps=check_int_range("max_steps", max_steps, 1, 1 << 31),
        derivative=derivative,
        memory=memory,
        chunk=chunk,
        ode=ode,
        backend=backend,
        fuse=fuse,
    )
    return solve_likelihood(ask, x, transform)
