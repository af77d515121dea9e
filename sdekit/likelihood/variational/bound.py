r"""DDPM's variational bound on -log p(x_0), term by term (Ho, Jain & Abbeel 2020, eq. 5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from torch import Tensor

from sdekit.likelihood.pointwise import check_points
from sdekit.likelihood.transform import DataTransform
from sdekit.likelihood.variational.bins import PUBLISHED, make_bins, place
from sdekit.likelihood.variational.coefficients import coefficients
from sdekit.likelihood.variational.levels import LevelDraw
from sdekit.likelihood.variational.result import VariationalBound
from sdekit.likelihood.variational.terms import DECODERS, Terms, decoder_control, last_term
from sdekit.likelihood.variational.walk import BLOCK, Walk
from sdekit.sde import DDPM

__all__ = ["variational_bound"]


@torch.no_grad()
def variational_bound(
    process: DDPM,
    eps_model: Callable[[Tensor, Tensor], Any],
    x0: Tensor,
    *,
    decoder: str = "discretized",
    variance: str = "fixedlarge",
    transform: DataTransform | None = None,
    decoder_variance: float | None = None,
    clip: tuple[float, float] | None = None,
    draws: int = 2,
    levels: int | None = None,
    data_std: float = 0.5,
    seed: int = 0,
    first_sample: int = 0,
    chunk: int = 128,
) -> VariationalBound:
    r"""The bound E_q[L_T + L_{N-1} + .. + L_1 + L_0] >= -log p(x_0) of each sample, in nats:

        L_T     = KL(q(x_N | x_0) | N(0, 1)),
        L_{k-1} = KL(q(x_{k-1} | x_k, x_0) | p(x_{k-1} | x_k)),    k = 2..N,
        L_0     = -log p(x_0 | x_1),

    where q is the chain ``process`` and p(x_{k-1} | x_k) = N(mu(x_k, k), v_k), mu being the mean of
    the posterior with x0_hat = (x_k - s_k eps_hat) / a_k for x_0. L_T and the variances' part are
    exact; what is left is an average over x_k, estimated with ``draws`` draws of noise a level, and
    with a control of mean zero that takes most of the noise away (see ``coefficients.py``): an
    estimate of a single term may be below 0. The sums are made in float64, from eps_hat - eps, the
    network runs in x_0's type.

    The data must have the scale of the chain: x_0 of about unit size.

    Args:
        process: the chain, a ``DDPM``.
        eps_model: (t, x) -> eps_hat of x's shape, t (R,) = k / N in x's dtype; for
            variance="learned" -> (eps_hat, u), u in [0, 1] of x's shape: ``ddpm_learned``'s model.
        x0: (B, D...), float32 or float64, or integers, which ``transform`` maps (for a discretized
            decoder to the middles of its bins, whether or not it dequantizes).
        decoder: "discretized", the probability of x_0's bin (eq. 13) by exact normal integrals;
            "discretized_tanh", as the published code approximates it; "gaussian", the density.
        variance: v_k. "fixedlarge", beta_k; "fixedsmall", v~_k = beta_k s_{k-1}^2 / s_k^2;
            "learned", between the two (Nichol & Dhariwal 2021, eq. 15).
        transform: where the integers lie. For a discretized decoder x_0 must stand at the middles
            of its bins; None is the published k / 127.5 - 1. For "gaussian" it is what bits per
            dimension need to know, and may be None.
        decoder_variance: v_1; None takes v~_2, as the published code does whatever ``variance``.
        clip: (low, high) to hold x0_hat in, as the published evaluation does with (-1, 1).
        draws: passes with new noise; from 2 on there is a std_error.
        levels: None visits all N. A number n draws n levels of 2..N anew for each sample and pass,
            one in each of n strata by an importance law (see ``LevelDraw``), beside L_0:
            draws (n + 1) evaluations a sample instead of draws N, and still unbiased.
        data_std: about the std of the data: matters for the variance of the estimate alone.
        seed, first_sample: name the noise, streams BOUND and BOUND_LEVEL.
        chunk: rows (a sample at a level) that go into one call of the network, the first samples'
            first. Beside what the network takes, 40 bytes a component and row; 16 rows of noise are
            made at once even if ``chunk`` is less.

    Raises TypeError for a process that is no DDPM, a network that is not callable or returns what
    the variance does not need; TypeError or ValueError for numbers out of range, unknown names,
    shapes that differ, or data that do not stand at the middles of their bins.
    """
    if not isinstance(process, DDPM):
        raise TypeError(
            f"process must be a DDPM chain, got {type(process).__name__}: write "
            "sk.DDPM(betas), or sk.elbo(sde, score, x) for the bound of an SDE"
        )
    if not callable(eps_model):
        raise TypeError(
            f"eps_model must be callable as eps_model(t, x), got {type(eps_model).__name__}"
        )
    check_choice("decoder", decoder, DECODERS)
    data_std = check_positive("data_std", data_std)
    table = coefficients(process, variance, decoder_variance, data_std)
    x0, transform = _data(x0, decoder, transform, seed, first_sample)
    bins = None
    if decoder != "gaussian" and transform is not None:
        bins = make_bins(x0, transform)
        table = decoder_control(table, decoder, bins)
    passes = check_int_range("draws", draws, 1, 1 << 24)
    first_sample = check_int_range("first_sample", first_sample, 0, (1 << 63) - len(x0) + 1)
    chunk = check_int_range("chunk", chunk, 1, 1 << 31)
    terms = Terms(table, decoder, variance, bins, _range(clip))
    walk = Walk(eps_model, x0, terms, chunk, seed, first_sample)
    picker = None
    if levels is not None:
        count = check_int_range("levels", levels, 1, 1 << 24)
        picker = LevelDraw(table, count, data_std)
    slots = process.steps if picker is None else picker.count + 1
    check_int_range("draws times levels", passes * -(-slots // BLOCK), 1, 1 << 32)

    every = torch.arange(1, process.steps + 1).expand(len(x0), -1)
    total = _Sums(x0, process.steps)
    for draw in range(passes):
        if picker is None:
            total.add(every, None, *walk.run(every, draw))
            continue
        drawn, weights = picker.draw(len(x0), draw, seed, first_sample)
        at = torch.cat([torch.ones_like(drawn[:, :1]), drawn], 1)
        weights = torch.cat([torch.ones_like(weights[:, :1]), weights], 1)
        total.add(at, weights.to(x0.device), *walk.run(at, draw))
    means, std_error, squared = total.means()
    return VariationalBound(
        terms=torch.cat([means, last_term(table, x0).unsqueeze(1)], 1),
        std_error=std_error,
        squared_error=squared,
        dim=x0.shape[1:].numel(),
        decoder=decoder,
        variance=variance,
        transform=transform,
        nfe=passes * slots,
    )


class _Sums:
    """Means over passes of the terms by level, and the variance over passes of each slot."""

    def __init__(self, x0: Tensor, steps: int) -> None:
        like: dict[str, Any] = {"dtype": torch.float64, "device": x0.device}
        self.terms, self.squared, self.visits = torch.zeros(3, len(x0), steps, **like)
        self.passes = 0
        self.mean = self.spread = torch.zeros((), **like)

    def add(self, at: Tensor, weights: Tensor | None, value: Tensor, squared: Tensor) -> None:
        """Take a pass: values and squared errors (B, S) at levels (B, S)."""
        index = (at - 1).to(value.device)
        value = value if weights is None else value * weights
        self.terms.scatter_add_(1, index, value)
        self.squared.scatter_add_(1, index, squared)
        self.visits.scatter_add_(1, index, torch.ones_like(squared))
        # Welford 1962: a slot is a level, or a stratum of levels.
        self.passes += 1
        away = value - self.mean
        self.mean = self.mean + away / self.passes
        self.spread = self.spread + away * (value - self.mean)

    def means(self) -> tuple[Tensor, Tensor, Tensor]:
        """(terms (B, N), std_error (B,) of their sum, squared errors (B, N))."""
        if self.passes == 1:
            error = torch.full_like(self.mean[:, 0], math.nan)
        else:
            error = (self.spread.sum(1) / (self.passes * (self.passes - 1))).sqrt()
        return self.terms / self.passes, error, self.squared / self.visits


def _data(
    x0: Any, decoder: str, transform: Any, seed: int, first_sample: int
) -> tuple[Tensor, DataTransform | None]:
    """x_0 as a point, and its transform: the published one for discretized decoders without."""
    if transform is not None and not isinstance(transform, DataTransform):
        raise TypeError(f"transform must be a DataTransform, got {type(transform).__name__}")
    if decoder != "gaussian" and transform is None:
        transform = PUBLISHED
    whole = isinstance(x0, Tensor) and not x0.is_floating_point() and not x0.is_complex()
    if whole and transform is not None:
        if decoder != "gaussian":
            x0 = place(x0, transform)
        else:
            x0 = transform.forward(x0, seed=seed, first_sample=first_sample)
    x0 = check_points(x0)
    if transform is not None and decoder == "gaussian":
        transform.check_range(x0)
    return x0, transform


def _range(clip: Any) -> tuple[float, float] | None:
    """``clip`` as two finite numbers in order; raises TypeError or ValueError otherwise."""
    if clip is None:
        return None
    try:
        low, high = (float(v) for v in clip)
    except (TypeError, ValueError):
        raise TypeError(f"clip must be (low, high), got {clip!r}") from None
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"clip must be finite numbers low < high, got {clip!r}")
    return low, high
