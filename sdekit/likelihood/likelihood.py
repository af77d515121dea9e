r"""Log-likelihoods by the probability-flow ODE (Song et al. 2021, arXiv 2011.13456, appendix D).

The flow dx = F(t, x) dt, F = f - g^2 s / 2, carries p_t along, and along a path the density obeys
d log p_t(x_t) / dt = -div F (Chen et al. 2018, "instantaneous change of variables"). So

    log p_{t_min}(x) = log p_T(x_T) + \int_{t_min}^T div F(t, x_t) dt,    x_{t_min} = x,

one ODE for the state and the integral together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from torch import Tensor

from sdekit.likelihood.divergence import DERIVATIVES, PROBES, draw_probes, field_divergence
from sdekit.likelihood.ode import METHODS, NONFINITE, OK, integrate
from sdekit.likelihood.transform import DataTransform
from sdekit.sde import ProbabilityFlow, check_output

__all__ = ["Likelihood", "log_likelihood"]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What ``log_likelihood`` found, one entry a sample.

    log_prob: (B,) nats. std_error: (B,) nats, the standard error that the probes say log_prob has;
    0 for the exact divergence, NaN for a single probe, which cannot tell. nfe: (B,) int64,
    evaluations of the score. status: (B,) int8: 0 ok; 1 left the finite numbers; 2 the step size
    shrank to nothing. Where status is not 0, log_prob and std_error are NaN.
    dim: components of a sample. transform: the data transform, if one was given.
    """

    log_prob: Tensor
    std_error: Tensor
    nfe: Tensor
    status: Tensor
    dim: int
    transform: DataTransform | None = None

    @property
    def bits_per_dim(self) -> Tensor:
        """-(log_prob + D log|dx/dk|) / (D ln 2), (B,): bits per component of the integer data.

        Raises ValueError if no transform was given: a density alone has no bits.
        """
        if self.transform is None:
            raise ValueError(
                "bits per dimension need the map from integers to x: write "
                "log_likelihood(..., transform=DataTransform(levels, low, high))"
            )
        return -(self.log_prob / self.dim + self.transform.log_abs_det) / math.log(2.0)

    @property
    def bits_std_error(self) -> Tensor:
        """Standard error of ``bits_per_dim``, (B,)."""
        return self.std_error / (self.dim * math.log(2.0))


@torch.no_grad()
def log_likelihood(
    sde: Any,
    score: Any,
    x: Tensor,
    *,
    divergence: str = "exact",
    probes: str = "rademacher",
    n_probes: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    t_min: float | None = None,
    t_max: float | None = None,
    prior: Any = None,
    seed: int = 0,
    first_sample: int = 0,
    transform: DataTransform | None = None,
    method: str = "dopri5",
    breaks: Sequence[float] | None = None,
    derivative: str = "reverse",
    chunk: int | None = None,
) -> Likelihood:
    r"""log p_{t_min}(x) = log p_T(x_T) + \int div F dt along the probability flow, in nats.

    Args:
        sde: any object with drift and diffusion of additive, diagonal or scalar noise.
        score: any callable (t, x) -> x's shape; t is a 0-d tensor. Samples must not see each other.
        x: (B, D...), float32 or float64.
        divergence: "exact", by D directional derivatives vectorized, or "hutchinson", by
            ``n_probes`` probes that stay fixed along the path ("rademacher" or "gaussian"; stream
            PROBE of the seed, sample ``first_sample`` first). Each probe has its own integral, and
            std_error is their standard deviation over sqrt(n_probes).
        rtol, atol: tolerances of the adaptive ODE, met by each sample's state and log-density (the
            RMS over its components; the batch takes the steps that its hardest sample needs, so
            results of a split batch agree within the tolerance, not to the bit).
        t_min, t_max: the ends of the ODE; by default ``sde.t_min_likelihood`` and ``sde.T``. x is
            taken as a draw at t_min.
        prior: the law at t_max, an object with log_prob(x) -> (B,); by default
            ``sde.prior_log_prob``, the law at T, which the law of real data only approaches.
        transform: the ``DataTransform`` that made x; gives ``bits_per_dim``.
        method: "dopri5" (Dormand & Prince 1980) or "bosh3", of torchdiffeq.
        breaks: times where the coefficients are not smooth (the clip of a cosine schedule), at
            which a step has to end; by default ``sde.breaks`` if there is such a thing.
        derivative, chunk: see ``sdekit.likelihood.field_divergence``.

    No gradients flow through. Raises TypeError or ValueError for arguments out of their range or
    of the wrong shape, saying what to write. A sample that is or becomes non-finite is reported in
    ``status``; the others are unharmed.
    """
    check_choice("divergence", divergence, ("exact", "hutchinson"))
    check_choice("probes", probes, PROBES)
    check_choice("method", method, METHODS)
    check_choice("derivative", derivative, DERIVATIVES)
    n_probes = check_int_range("n_probes", n_probes, 1, 1 << 31)
    _check_x(x)
    rtol, atol = _check_tolerances(rtol, atol, x.dtype)
    start, end = _check_times(sde, t_min, t_max)
    log_prior = _prior(sde, prior, end)
    stops = tuple(getattr(sde, "breaks", ()) if breaks is None else breaks)
    if transform is not None and not isinstance(transform, DataTransform):
        raise TypeError(f"transform must be a DataTransform, got {type(transform).__name__}")
    flow = ProbabilityFlow(sde, score)

    n, event, dim = x.shape[0], x.shape[1:], x.shape[1:].numel()
    columns = n_probes if divergence == "hutchinson" else 1
    estimates = torch.full((n, columns), math.nan, dtype=x.dtype, device=x.device)
    status = torch.full((n,), NONFINITE, dtype=torch.int8, device=x.device)
    nfe = torch.zeros(n, dtype=torch.int64, device=x.device)

    # Non-finite input stays outside: one NaN in the state would stop the whole batch's ODE.
    # Numbers, not a mask, so that each sample keeps its own probes.
    inside = x.reshape(n, dim).isfinite().all(1).nonzero().squeeze(1)
    if inside.numel() > 0:
        vectors = None
        if divergence == "hutchinson":
            drawn = draw_probes(n_probes, x, kind=probes, seed=seed, first_sample=first_sample)
            vectors = drawn[:, inside]

        def rhs(t: Tensor, y: Tensor) -> Tensor:
            def field(x: Tensor) -> Tensor:
                return check_output("sde.drift", flow.drift(t, x), x)

            state = y[:, :dim].reshape(-1, *event)
            slope, div = field_divergence(
                field, state, probes=vectors, derivative=derivative, chunk=chunk
            )
            return torch.cat([slope.reshape(-1, dim), div], dim=1)

        y = torch.cat([x[inside].reshape(-1, dim), x.new_zeros(inside.numel(), columns)], dim=1)
        done = integrate(
            rhs, y, start, end, split=dim, rtol=rtol, atol=atol, method=method, breaks=stops
        )
        at_end = log_prior(done.y[:, :dim].reshape(-1, *event))
        estimates[inside] = at_end.unsqueeze(1) + done.y[:, dim:]
        nfe[inside], status[inside] = done.nfe, done.status
        status[(status == OK) & ~estimates.isfinite().all(1)] = NONFINITE
        estimates[status != OK] = math.nan

    log_prob = estimates.mean(1)
    if divergence == "hutchinson":
        # One probe has no standard deviation: NaN says so, without torch's warning.
        spread = estimates.std(1) if n_probes > 1 else torch.full_like(log_prob, math.nan)
        std_error = spread / math.sqrt(n_probes)
    else:
        std_error = torch.where(status == OK, torch.zeros_like(log_prob), math.nan)
    return Likelihood(log_prob, std_error, nfe, status, dim, transform)


def _check_x(x: Any) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}: write torch.as_tensor")
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}: write x.float()")
    if x.ndim < 2 or x.shape[1:].numel() == 0:
        raise ValueError(
            f"x must have the shape (B, D...) with D >= 1, got {tuple(x.shape)}: "
            "write x.view(-1, 1) for samples of one number"
        )


def _check_tolerances(rtol: Any, atol: Any, dtype: torch.dtype) -> tuple[float, float]:
    rtol, atol = check_positive("rtol", rtol), check_positive("atol", atol)
    least = 8.0 * torch.finfo(dtype).eps
    if rtol < least:
        raise ValueError(
            f"rtol must be at least {least:.1g} in {dtype}, whose rounding is no finer, "
            f"got {rtol:g}: write x.double() or a larger rtol"
        )
    return rtol, atol


def _check_times(sde: Any, t_min: Any, t_max: Any) -> tuple[float, float]:
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


def _prior(sde: Any, prior: Any, end: float) -> Any:
    """log p at t_max as a function x (B, D...) -> (B,), checked when it is called."""
    if prior is None:
        known = getattr(sde, "prior_log_prob", None)
        if not callable(known):
            raise TypeError(
                f"{type(sde).__name__} has no prior_log_prob: write log_likelihood(..., prior=p) "
                "with p.log_prob(x) the log-density at t_max"
            )
        if hasattr(sde, "T") and end != float(sde.T):
            raise ValueError(
                f"prior_log_prob is the law at T = {float(sde.T):g}, but t_max is {end:g}: write "
                "log_likelihood(..., prior=p) with p.log_prob(x) the log-density at t_max"
            )
    else:
        known = getattr(prior, "log_prob", None)
        if not callable(known):
            raise TypeError(f"prior must have log_prob(x), got {type(prior).__name__}")

    def log_prior(x: Tensor) -> Tensor:
        value = known(x)
        if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"log_prob of the prior must return one number a sample, {tuple(x.shape[:1])}, "
                f"got {given}: torch.distributions.Independent sums over components"
            )
        return value.to(x.dtype)

    return log_prior
