r"""DDPM's L_simple (Ho, Jain & Abbeel 2020, arXiv 2006.11239, eq. 14).

    L = E_k E |z - eps(t_k, sqrt(abar_k) x_0 + sqrt(1 - abar_k) z)|^2 / D,    k uniform on 1..N.

It is denoising score matching of the chain's equation with the weighting "simple", at the chain's
levels t_k = k / N instead of all times.
"""

from __future__ import annotations

from typing import Any

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.likelihood.pointwise import check_affine
from sdekit.sde import DDPM, VP, AffineSDE, ChainBeta
from sdekit.train.losses.denoising import denoising_score_matching
from sdekit.train.losses.diffused import Net
from sdekit.train.times import Levels

__all__ = ["chain_of", "check_chain", "ddpm_simple", "ddpm_simple_of_score"]

_STEPS = 1000


def ddpm_simple(chain: DDPM, eps_model: Net, x0: Tensor, *, seed: int, step: int = 0) -> Tensor:
    """Return an unbiased estimate of L for each sample of x0 (B, D...): (B,). Differentiable.

    Args:
        chain: the levels; each sample gets one, stratified over the batch.
        eps_model: (t, x) -> eps of x's shape, t (B,) in units of ``chain.sde``, t_k = k / N.
        x0, seed, step: as ``denoising_score_matching``.

    Raises TypeError for what is no chain, and as ``denoising_score_matching``.
    """
    return ddpm_simple_of_score(
        check_chain(chain).sde, eps_model, x0, seed=seed, step=step, target="eps"
    )


def ddpm_simple_of_score(
    sde: AffineSDE,
    net: Net,
    x0: Tensor,
    *,
    seed: int,
    step: int = 0,
    target: str = "score",
    steps: int | None = None,
) -> Tensor:
    """``ddpm_simple`` of a network of any target, at the levels t_k = k T / N of an affine SDE.

    steps: N; that of the chain for a chain's equation, else 1000. Other arguments and errors as
    ``denoising_score_matching``.
    """
    n = _levels(check_affine(sde), steps)
    times = Levels(_even(n) * float(sde.T))
    return denoising_score_matching(sde, net, x0, seed=seed, step=step, target=target, times=times)


def chain_of(process: Any, steps: int | None = None) -> DDPM:
    """The chain with the laws of a VP equation at t_k = k / N; a chain is itself.

    steps: N; that of the chain for a chain's equation, else 1000. Raises TypeError for another
    equation.
    """
    if isinstance(process, DDPM):
        return process
    if not isinstance(process, VP) or float(process.T) != 1.0:
        raise TypeError(
            "the chain of DDPM is that of a VP equation on [0, 1], got "
            f"{type(process).__name__}: write DDPM.linear() or VP()"
        )
    schedule = getattr(process, "schedule", None)
    n = _levels(process, steps)
    if isinstance(schedule, ChainBeta) and n == len(schedule.betas):
        return DDPM(schedule.betas)
    ends = Levels(_even(n)).times
    starts = ends - 1.0 / n
    return DDPM(process.transition_variance(starts.clamp(min=0.0), ends))


def _levels(sde: Any, steps: int | None) -> int:
    """N: as asked, or the equation's own."""
    if steps is not None:
        return check_int_range("steps", steps, 2, 1 << 31)
    schedule = getattr(sde, "schedule", None)
    return len(schedule.betas) if isinstance(schedule, ChainBeta) else _STEPS


def _even(n: int) -> Tensor:
    """1 / n, 2 / n, .., 1."""
    return torch.arange(1, n + 1, dtype=torch.float64) / n


def check_chain(chain: Any) -> DDPM:
    """``chain`` if it is a ``DDPM``; raises TypeError otherwise."""
    if not isinstance(chain, DDPM):
        raise TypeError(
            f"chain must be a DDPM, whose levels are known, got {type(chain).__name__}: write "
            "DDPM.linear() or DDPM(betas)"
        )
    return chain
