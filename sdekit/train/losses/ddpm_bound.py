r"""DDPM's variational bound at random levels (Ho, Jain & Abbeel 2020, arXiv 2006.11239, eq. 5).

    -log p(x_0) <= L_T + sum_{k=1}^N L_{k-1}

with the terms of ``sdekit.likelihood.variational_bound``, which visits all levels. Here each sample
gets one level k, uniform on 1..N: L_T + N L_{k-1} has the sum's mean. As L_{k-1} = constant +
c_0^2 / (2 v_k) (s_k / a_k)^2 |z - eps|^2 for k > 1, its gradient is that of DDPM's L_simple with
the weight beta_k^2 / (2 v_k (1 - beta_k) (1 - abar_k)) of each level.
"""

from __future__ import annotations

from typing import Any

import torch
from sdekit_kernels.checks import check_choice
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.likelihood.transform import DataTransform
from sdekit.likelihood.variational.bins import PUBLISHED, make_bins
from sdekit.likelihood.variational.coefficients import coefficients
from sdekit.likelihood.variational.terms import DECODERS, Terms, last_term
from sdekit.sde import DDPM, expand
from sdekit.train.losses.ddpm import chain_of, check_chain
from sdekit.train.losses.diffused import Net, check_data, diffuse, evaluate
from sdekit.train.losses.targets import as_score, check_target
from sdekit.train.times import pick

__all__ = ["ddpm_bound", "ddpm_bound_of_score"]


def ddpm_bound(
    chain: DDPM,
    eps_model: Net,
    x0: Tensor,
    *,
    seed: int,
    step: int = 0,
    variance: str = "fixedlarge",
    decoder: str = "discretized",
    transform: DataTransform | None = None,
) -> Tensor:
    """Return an unbiased estimate of the bound, in nats a component, for x0 (B, D...): (B,).

    Differentiable; the terms are in float64 within.

    Args:
        chain: the levels; each sample gets one, stratified over the batch.
        eps_model: (t, x) -> eps of x's shape, t (B,) in units of ``chain.sde``, t_k = k / N; for
            variance="learned" -> (eps, u).
        x0, seed, step: as ``denoising_score_matching``.
        variance: v_k, "fixedlarge", "fixedsmall" or "learned".
        decoder: "discretized" (or "discretized_tanh"), the probability of x0's bin, for integer
            data at the middles of their bins; "gaussian", a density.
        transform: of the integers, for the bins; k / 127.5 - 1 for k in 0..255 if None.
            All three as ``sdekit.likelihood.variational_bound``.

    Raises TypeError for what is no chain, ValueError for an unknown decoder or variance, data that
    stand where ``transform`` puts no integer, and as ``denoising_score_matching``.
    """
    check_choice("decoder", decoder, DECODERS)
    table = coefficients(check_chain(chain), variance)
    n = check_data(x0).shape[0]
    bins = None if decoder == "gaussian" else make_bins(x0, transform or PUBLISHED)
    k = pick(chain.steps, n, seed=seed, step=step) + 1
    place = diffuse(chain.sde, x0, _Given(chain.time(k)), seed=seed, step=step)
    if not callable(eps_model):
        raise TypeError(
            f"eps_model must be callable as eps_model(t, x), got {type(eps_model).__name__}"
        )
    dtype = compute_dtype(x0.dtype)
    output = eps_model(place.t.to(dtype), place.x)
    terms = Terms(table, decoder, variance, bins, None)
    each, _ = terms(torch.arange(n), k, x0, place.z, output)
    return ((chain.steps * each + last_term(table, x0)) / x0.shape[1:].numel()).to(dtype)


def ddpm_bound_of_score(
    process: Any,
    net: Net,
    x0: Tensor,
    *,
    seed: int,
    step: int = 0,
    target: str = "score",
    steps: int | None = None,
    variance: str = "fixedlarge",
    decoder: str = "gaussian",
    transform: DataTransform | None = None,
) -> Tensor:
    """``ddpm_bound`` of a network of any target, for a chain or the chain of a VP equation.

    steps: N, see ``chain_of``. Other arguments and errors as ``ddpm_bound``.
    """
    target, _ = check_target(target, None)
    chain = chain_of(process, steps)
    score = as_score(net, chain.sde, target)

    def eps(t: Tensor, x: Tensor) -> Tensor:
        return -expand(chain.sde.std(t), x) * evaluate("net", score, t, x)

    return ddpm_bound(
        chain,
        net if target == "eps" else eps,
        x0,
        seed=seed,
        step=step,
        variance=variance,
        decoder=decoder,
        transform=transform,
    )


class _Given:
    """These times and no others, as ``Times``."""

    def __init__(self, t: Tensor) -> None:
        self._t = t

    def __call__(self, n: int, *, seed: int, step: int = 0) -> tuple[Tensor, Tensor]:
        return self._t, torch.ones_like(self._t)
