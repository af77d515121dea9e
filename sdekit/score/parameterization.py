r"""Scores from networks that predict something else: noise, data, the mixture v, a denoised x.

With y = x - offset and x_0 taken likewise, y_t = alpha(t) x_0 + sigma(t) eps under any
``AffineSDE``. Each adapter is the identity that holds where the network is the exact conditional
expectation given x_t. The returned score divides by sigma(t), so t must be above 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.sde import AffineSDE, as_time, check_output, expand

Net = Callable[[Tensor, Tensor], Tensor]
Score = Callable[[Tensor, Tensor], Tensor]


def from_eps(net: Net, sde: AffineSDE) -> Score:
    """Score of a network that predicts the noise: score = -eps / sigma(t).

    net: (t, x) -> eps of x's shape (Ho et al. 2020, with t in the SDE's units).
    The score raises ValueError if the network's output does not have x's shape.
    """
    _check(net, sde)

    def score(t: Tensor, x: Tensor) -> Tensor:
        eps = check_output("the eps network", net(t, x), x)
        return -eps / expand(sde.std(as_time(t, x)), x)

    return score


def from_x0(net: Net, sde: AffineSDE) -> Score:
    """Score of a network that predicts the data: score = (alpha(t) x_0 - y) / sigma(t)^2 (Tweedie).

    net: (t, x) -> E[x_0 | x_t] of x's shape, in the data's own coordinates (offset included).
    The score raises ValueError if the network's output does not have x's shape.
    """
    _check(net, sde)

    def score(t: Tensor, x: Tensor) -> Tensor:
        x0 = check_output("the x0 network", net(t, x), x)
        return _from_data(sde, x0, x, *_coefficients(sde, t, x))

    return score


def from_v(net: Net, sde: AffineSDE) -> Score:
    r"""Score of a network that predicts v (Salimans & Ho 2022, arXiv 2202.00512).

    v = (alpha eps - sigma x_0) / n with n = sqrt(alpha^2 + sigma^2), which is 1 for VP, where v is
    the paper's. As y = alpha x_0 + sigma eps, eps = (sigma y / n + alpha v) / n and score = -eps /
    sigma.

    net: (t, x) -> v of x's shape. The score raises ValueError if the output does not have x's
    shape.
    """
    _check(net, sde)

    def score(t: Tensor, x: Tensor) -> Tensor:
        v = check_output("the v network", net(t, x), x)
        alpha, std = _coefficients(sde, t, x)
        norm = (alpha.square() + std.square()).sqrt()
        return -(sde.centered(x) / norm + alpha / std * v) / norm

    return score


def from_edm(net: Net, sde: AffineSDE) -> Score:
    """Score of a denoiser D(x; sigma) (Karras et al. 2022, arXiv 2206.00364), under any affine SDE.

    y / alpha(t) is data with noise of level sigma(t) / alpha(t): x_0 = D(y / alpha + offset; sigma
    / alpha) and score = (alpha x_0 - y) / sigma^2.

    net: (x, level) -> x_0 of x's shape, in the paper's order of arguments; level is 0-d or (B,), as
    t is, in x's dtype (float32 for bfloat16 and float16).
    Raises ValueError if the SDE has per component parameters (there is no one level then); the
    score raises it if the output does not have x's shape.
    """
    _check(net, sde)
    if sde.event_shape is not None:
        raise ValueError(
            "from_edm needs one noise level for all components, but the SDE's parameters have the "
            f"event shape {sde.event_shape}: use from_x0, whose network gets t"
        )

    def score(t: Tensor, x: Tensor) -> Tensor:
        t = as_time(t, x)
        alpha, std = _coefficients(sde, t, x)
        level = (sde.std(t) / sde.mean_coefficient(t)).to(compute_dtype(x.dtype))
        blurred = sde.uncentered(sde.centered(x) / alpha)
        x0 = check_output("the EDM denoiser", net(blurred, level), x)
        return _from_data(sde, x0, x, alpha, std)

    return score


def clip_data(score: Score, sde: AffineSDE, low: float = -1.0, high: float = 1.0) -> Score:
    """Score of a model whose estimate of x_0 is held in [low, high], where the data lie.

    score' = (alpha clip(E[x_0 | x_t]) - y) / sigma^2, with E[x_0 | x_t] by Tweedie: the clipping of
    Ho et al. 2020's sampler. It is no score where the clip binds, and divergences see that.
    Raises TypeError as ``from_eps`` does, ValueError unless low < high.
    """
    _check(score, sde)
    if not low < high:
        raise ValueError(f"low must be below high, got {low!r} and {high!r}")

    def clipped(t: Tensor, x: Tensor) -> Tensor:
        x0 = sde.tweedie(t, x, score(t, x)).clamp(low, high)
        return _from_data(sde, x0, x, *_coefficients(sde, t, x))

    return clipped


def _coefficients(sde: AffineSDE, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """alpha(t) and sigma(t), to multiply x."""
    t = as_time(t, x)
    return expand(sde.mean_coefficient(t), x), expand(sde.std(t), x)


def _from_data(sde: AffineSDE, x0: Tensor, x: Tensor, alpha: Tensor, std: Tensor) -> Tensor:
    """(alpha x_0 - y) / sigma^2; divided twice, for in float16 the square of 1e-4 is 0."""
    return (alpha * sde.centered(x0) - sde.centered(x)) / std / std


def _check(net: Any, sde: Any) -> None:
    """Raises TypeError unless ``net`` is callable and ``sde`` affine."""
    if not callable(net):
        raise TypeError(f"net must be callable, got {type(net).__name__}")
    if not isinstance(sde, AffineSDE):
        raise TypeError(
            f"sde must be an AffineSDE, whose alpha(t) and sigma(t) are known, got {sde!r}"
        )
