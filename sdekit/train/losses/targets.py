r"""What a network may predict, and how its squared error is that of the score.

With y = x - offset, y_t = alpha y_0 + sigma z, n = sqrt(alpha^2 + sigma^2), and hats on what the
network says or implies, the error of the score s - grad log p(x_t | x_0) = s + z / sigma is

    target          the network's regression target       error of the score =
    score           -z / sigma                            s-hat + z / sigma
    eps             z                                     -(eps-hat - z) / sigma
    x0              x_0                                   alpha / sigma^2 (x_0-hat - x_0)
    v               (alpha z - sigma y_0) / n             -alpha / (n sigma) (v-hat - v)
    posterior_mean  offset + c_0 y_0 + c_t y_t            alpha / (sigma^2 c_0) (m-hat - m)

so that the plain squared error ("uniform") of eps is sigma^2-weighted score matching ("simple"),
that of x_0 is (sigma / alpha)^2 times that of eps, and that of v is (n / alpha)^2 times that of
eps. v is that of Salimans & Ho 2022 (arXiv 2202.00512), where n = 1.

The posterior mean is that of q(x_s | x_t, x_0) for s = max(t - gap, 0) (Ho et al. 2020, arXiv
2006.11239, eq. 7). With r = alpha_t / alpha_s and w the variance of x_t given x_s:

    c_0 = alpha_s w / sigma_t^2,    c_t = r sigma_s^2 / sigma_t^2.

For a chain of N levels gap = 1 / N is Ho's mu-tilde; the whole way, s = 0, is x_0 itself, whose
prediction is E[x_0 | x_t].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice, check_positive
from torch import Tensor

from sdekit.likelihood.pointwise import check_affine
from sdekit.score import from_eps, from_v, from_x0
from sdekit.sde import AffineSDE, as_time, check_output, expand
from sdekit.train.losses.diffused import Diffused, Net

__all__ = ["TARGETS", "Residual", "as_score", "check_target", "residual_of"]

TARGETS: Final = ("score", "eps", "x0", "v", "posterior_mean")


@dataclass(frozen=True, slots=True)
class Residual:
    """error (B, D...): a multiple of the network's error. The score's error is unit error.

    unit, own: float64, to multiply x. own: what makes error^2 the network's own squared error.
    """

    error: Tensor
    unit: Tensor
    own: Tensor


def check_target(target: Any, gap: Any) -> tuple[str, float | None]:
    """The target's name and the gap; raises TypeError or ValueError for what is none."""
    target = check_choice("target", target, TARGETS)
    if gap is None:
        return target, None
    if target != "posterior_mean":
        raise ValueError(
            f"gap is the way back to the mean that target='posterior_mean' predicts, got "
            f"gap={gap!r} with target={target!r}: leave it away"
        )
    return target, check_positive("gap", gap)


def residual_of(target: str, place: Diffused, out: Tensor, gap: float | None) -> Residual:
    """The error of the network's output ``out`` at ``place``, for a target of ``TARGETS``."""
    one = torch.ones_like(place.std)
    alpha, std, z = place.alpha, place.std, place.z
    if target == "score":
        # std (s + z / std): nothing is divided by a small std.
        return Residual(_scaled(std, out) + z, 1.0 / std, std.reciprocal().square())
    if target == "eps":
        return Residual(out - z, 1.0 / std, one)
    if target == "x0":
        return Residual(out - place.x0, alpha / std.square(), one)
    y0 = place.sde.centered(place.x0)
    if target == "v":
        norm = (alpha.square() + std.square()).sqrt()
        want = _scaled(alpha / norm, z) - _scaled(std / norm, y0)
        return Residual(out - want, alpha / (norm * std), one)
    c0, ct = (place.wide(c) for c in _posterior(place.sde, place.t, gap))
    want = _scaled(c0, y0) + _scaled(ct, place.sde.centered(place.x))
    return Residual(place.sde.centered(out) - want, alpha / (std.square() * c0), one)


def as_score(net: Net, sde: AffineSDE, target: str = "score", *, gap: float | None = None) -> Net:
    """The score of a network that predicts ``target``: what samplers and likelihoods take.

    net: (t, x) -> x's shape. Raises TypeError or ValueError for an unknown target, a gap that does
    not belong to it, and as the adapters of ``sdekit.score``.
    """
    target, gap = check_target(target, gap)
    known: dict[str, Callable[[Net, AffineSDE], Net]] = {
        "eps": from_eps,
        "x0": from_x0,
        "v": from_v,
    }
    if target in known:
        return known[target](net, sde)
    check_affine(sde)
    if not callable(net):
        raise TypeError(f"net must be callable, got {type(net).__name__}")
    if target == "score":
        return net

    def data(t: Tensor, x: Tensor) -> Tensor:
        """y_0-hat = (m-hat - c_t y_t) / c_0."""
        mean = check_output("the posterior mean's network", net(t, x), x)
        c0, ct = (expand(c, x) for c in _posterior(sde, as_time(t, x), gap))
        return sde.uncentered((sde.centered(mean) - ct * sde.centered(x)) / c0)

    return from_x0(data, sde)


def _posterior(sde: AffineSDE, t: Tensor, gap: float | None) -> tuple[Tensor, Tensor]:
    """(c_0, c_t) of the mean of x_s given x_t and x_0, s = max(t - gap, 0)."""
    s = torch.zeros_like(t) if gap is None else (t - gap).clamp(min=0.0)
    zero = torch.zeros_like(t)
    whole = sde.transition_variance(zero, t)
    c0 = sde.log_mean_ratio(zero, s).exp() * sde.transition_variance(s, t) / whole
    ct = sde.log_mean_ratio(s, t).exp() * sde.transition_variance(zero, s) / whole
    return c0, ct


def _scaled(coefficient: Tensor, x: Tensor) -> Tensor:
    return coefficient.to(x.dtype) * x
