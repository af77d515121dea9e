r"""The score of samples that fit a measurement m = A x_0 + noise_std n.

By Bayes, grad log p(x_t | m) = s(t, x_t) + grad log p(m | x_t). With Tweedie's hat x_0 = E[x_0 |
x_t] and C = Cov[x_0 | x_t] = (sigma^2 / alpha) d hat x_0 / d x_t (its second order), the law of m
given x_t has the mean A hat x_0 and the covariance K = A C A^T + noise_std^2. Taken as Gaussian,

    grad log p(m | x_t) = (d hat x_0 / d x_t)^T A^T K^{-1} (m - A hat x_0)

(Boys et al. 2023, arXiv 2310.06721; Finzi et al. 2023): exact where the data are Gaussian, and for
any data as t goes to 0. K is never formed: conjugate gradients ask for its products with vectors,
each of which is one backward pass through the score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice, check_float_tensor, check_int_range, check_positive
from torch import Tensor

from sdekit.sample.operators import LinearOperator
from sdekit.sample.start import Score, check_score, evaluate
from sdekit.sde import AffineSDE, as_time, expand

__all__ = ["COVARIANCES", "conditional_score"]

COVARIANCES: Final = ("moment", "isotropic")
_ITERATIONS: Final = 16


def conditional_score(
    sde: AffineSDE,
    score: Score,
    measurement: Tensor,
    operator: Any,
    event_shape: tuple[int, ...],
    *,
    noise_std: float = 0.0,
    covariance: str = "moment",
    data_std: float = 1.0,
    iterations: int | None = None,
) -> Score:
    r"""The score (t, x) -> grad log p(x_t | m), for any sampler of this library.

    Args:
        score: of the data without the measurement; differentiable in x.
        measurement: m, (B, M...), one a sample, or (1, M...) for all.
        operator: A, see ``LinearOperator``.
        noise_std: of the measurement's noise, in the units of m; 0 for exact values.
        covariance: "moment", C by Tweedie's second order; "isotropic", C = sigma^2 v / (alpha^2 v +
            sigma^2) with v = data_std^2 (Song, Vahdat, Mardani & Kautz 2023, "PiGDM"): exact for
            Gaussian data of that std in every direction, and one backward pass instead of some 10.
        iterations: of the conjugate gradients; the number of measured values, 16 at most, if None.

    Raises TypeError or ValueError for arguments that do not fit; the score raises RuntimeError if
    the model cannot be differentiated.
    """
    if not isinstance(sde, AffineSDE):
        raise TypeError(f"sde must be an AffineSDE, whose alpha and sigma are known, got {sde!r}")
    check_score(score)
    check_choice("covariance", covariance, COVARIANCES)
    m = check_float_tensor("measurement", measurement)
    a = LinearOperator(operator, tuple(event_shape), m)
    seen = tuple(a(torch.zeros((1, *event_shape), dtype=m.dtype, device=m.device)).shape[1:])
    if m.ndim < 2 or tuple(m.shape[1:]) != seen:
        raise ValueError(
            f"the operator measures {seen} of a sample, but measurement has shape "
            f"{tuple(m.shape)}: it must be (B, {', '.join(map(str, seen))}), or (1, ...) for all"
        )
    if not bool(torch.isfinite(m).all()):
        raise ValueError("measurement must be finite, it has NaN or infinite entries")
    noise = check_positive("noise_std", noise_std, allow_zero=True) ** 2
    variance = check_positive("data_std", data_std) ** 2
    size = m[0].numel()
    count = min(size, _ITERATIONS) if iterations is None else iterations
    count = check_int_range("iterations", count, 1, 1 << 31)

    def guided(t: Tensor, x: Tensor) -> Tensor:
        time = as_time(t, x)
        alpha, std = expand(sde.mean_coefficient(time), x), expand(sde.std(time), x)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            s = evaluate(score, t, x)
            if not s.requires_grad:
                raise RuntimeError(
                    "the score has no derivative in x, which a measurement needs: write it with "
                    "differentiable operations, without no_grad and detach"
                )
            fit = a(sde.tweedie(t, x, s))

        def back(u: Tensor) -> Tensor:
            (g,) = torch.autograd.grad(fit, x, u, retain_graph=True)
            return g

        if covariance == "moment":
            ratio = std / alpha * std

            def product(u: Tensor) -> Tensor:
                return a(ratio * back(u)) + noise * u
        else:
            spread = std.square() * variance / (alpha.square() * variance + std.square())

            def product(u: Tensor) -> Tensor:
                return a(spread * a.adjoint(u)) + noise * u

        u = conjugate_gradients(product, (m - fit).detach(), count)
        return (s + back(u)).detach()

    return guided


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, *, tolerance: float = 1e-12
) -> Tensor:
    """K^{-1} b for a positive K a sample (Hestenes & Stiefel 1952), each sample on its own.

    A sample whose residual has fallen by ``tolerance`` (or the dtype's rounding), or whose K shows
    a direction that is not positive, as a network's may, keeps what it has.
    """

    def dot(v: Tensor, w: Tensor) -> Tensor:
        return (v * w).flatten(1).sum(1).view(-1, *[1] * (v.ndim - 1))

    least = max(tolerance, 8.0 * torch.finfo(b.dtype).eps)
    u, r, p = torch.zeros_like(b), b, b
    rr = dot(r, r)
    floor = rr * least**2
    going = rr > 0.0
    for _ in range(iterations):
        kp = product(p)
        curve = dot(p, kp)
        going = going & (curve > 0.0) & (rr > floor)
        step = torch.where(going, rr / torch.where(going, curve, 1.0), 0.0)
        u, r = u + step * p, r - step * kp
        new = dot(r, r)
        p = r + torch.where(going, new / torch.where(going, rr, 1.0), 0.0) * p
        rr = new
    return u
