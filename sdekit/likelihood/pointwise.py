"""What the parts of the error budget ask at given points: the score at one time, the prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdekit.sde import AffineSDE, check_output

__all__ = [
    "ScoreLike",
    "check_affine",
    "check_points",
    "log_prior",
    "own_prior",
    "per_sample",
    "score_at",
]

ScoreLike = Callable[[Tensor, Tensor], Tensor]


def check_affine(sde: Any) -> AffineSDE:
    """``sde`` if its transitions are known in closed form; raises TypeError otherwise."""
    if not isinstance(sde, AffineSDE):
        raise TypeError(
            f"sde must be an AffineSDE, whose transitions are known, got {type(sde).__name__}"
        )
    return sde


def check_points(x: Any) -> Tensor:
    """``x`` if it is a float32 or float64 tensor of shape (B, D...), D >= 1.

    Raises TypeError for what is no such tensor, ValueError for a shape without components.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}: write torch.as_tensor")
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}: write x.float()")
    if x.ndim < 2 or x.shape[1:].numel() == 0:
        raise ValueError(
            f"x must have the shape (B, D...) with D >= 1, got {tuple(x.shape)}: write "
            "x.view(-1, 1) for samples of one number"
        )
    return x


def score_at(score: ScoreLike, t: float | Tensor, x: Tensor) -> Tensor:
    """s(t, x) in float64 and of x's shape; the score sees t as (B,), in x's dtype.

    Raises TypeError if the score is not callable, and as ``check_output``.
    """
    if not callable(score):
        raise TypeError(f"score must be callable as score(t, x), got {type(score).__name__}")
    return check_output("score", score(_times(t, x), x), x).double()


def per_sample(what: str, value: Any, x: Tensor) -> Tensor:
    """``value`` in float64 if it is one number a sample, (B,).

    Raises TypeError if it is no tensor, ValueError if the shape differs.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{what} must return a tensor, got {type(value).__name__}")
    if value.shape != x.shape[:1]:
        raise ValueError(
            f"{what} must return one number a sample, {tuple(x.shape[:1])} for x of shape "
            f"{tuple(x.shape)}, got {tuple(value.shape)}: sum over the components"
        )
    return value.double()


def divergence_at(
    divergence: Callable[[Tensor, Tensor], Tensor], t: float | Tensor, x: Tensor
) -> Tensor:
    """divergence(t, x) in float64, (B,), t as in ``score_at``.

    Raises TypeError if it is not callable, and as ``per_sample``.
    """
    if not callable(divergence):
        raise TypeError(
            f"divergence must be callable as divergence(t, x), got {type(divergence).__name__}"
        )
    return per_sample("divergence", divergence(_times(t, x), x), x)


def log_prior(sde: Any, prior: Any, end: float) -> Callable[[Tensor], Tensor]:
    """The log-density of ``prior``, or of the SDE's, at ``end``: x (B, D...) -> (B,) in float64.

    Raises TypeError if neither has one, ValueError if the SDE's is that of another time.
    """
    if prior is not None:
        known = getattr(prior, "log_prob", None)
        if not callable(known):
            raise TypeError(f"prior must have log_prob(x), got {type(prior).__name__}")
    else:
        known = own_prior(sde, end)

    def value(x: Tensor) -> Tensor:
        return per_sample("log_prob of the prior", known(x), x)

    return value


def own_prior(sde: Any, end: float) -> Any:
    """The SDE's ``prior_log_prob``; TypeError if it has none, ValueError if not of time ``end``."""
    known = getattr(sde, "prior_log_prob", None)
    if not callable(known):
        raise TypeError(
            f"{type(sde).__name__} has no prior_log_prob: write prior=p with p.log_prob(x) "
            "the log-density at t_max"
        )
    if hasattr(sde, "T") and end != float(sde.T):
        raise ValueError(
            f"prior_log_prob is the law at T = {float(sde.T):g}, but t_max is {end:g}: write "
            "prior=p with p.log_prob(x) the log-density at t_max"
        )
    return known


def _times(t: float | Tensor, x: Tensor) -> Tensor:
    """One time a sample, (B,), in x's dtype: every sample has a time of its own."""
    times = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    return times.expand(x.shape[0]).contiguous()
