"""Samplers for Gaussian data written again from the papers' formulas, in numpy's float64.

Nothing here calls the library's coefficients: laws, schedules, chains and posteriors are spelled
out. For data N(m, s^2) the score is affine, so that every update is x' = P x + Q + R z.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Fn = Callable[[float], Any]


@dataclass(frozen=True)
class Law:
    """dx = a(t) (x - offset) dt + sqrt(g2(t)) dW: mean factor alpha(t), variance var(t)."""

    alpha: Fn
    var: Fn
    a: Fn
    g2: Fn
    prior_std: Any
    T: float = 1.0
    t_min: float = 1e-3
    offset: Any = 0.0
    beta: Callable[[float, float], float] | None = None
    """beta_i of the VP chain's step, for VP and subVP."""
    sigma: Fn | None = None
    """Level of noise, for VE."""
    chain: str = "euler"
    """Which discretization was published: "vp", "ve" or Euler's."""


def linear_integral(t: float) -> float:
    return 0.1 * t + 0.5 * 19.9 * t * t


def linear_beta(t: float) -> float:
    return 0.1 + 19.9 * t


def cosine_bar_alpha(t: float) -> float:
    """Nichol & Dhariwal 2021; beyond the time at which beta reaches 999 it decays at that rate."""
    held = min(t, cosine_clip())
    ratio = math.cos(math.pi / 2 * (held + 0.008) / 1.008) / math.cos(math.pi / 2 * 0.008 / 1.008)
    return ratio**2 * math.exp(-999.0 * (t - held))


def cosine_clip() -> float:
    return math.atan(999.0 * 1.008 / math.pi) * 2 * 1.008 / math.pi - 0.008


def cosine_beta(t: float) -> float:
    if t >= cosine_clip():
        return 999.0
    return math.pi / 1.008 * math.tan(math.pi / 2 * (t + 0.008) / 1.008)


def geometric(t: float) -> float:
    return 0.01 * 5000.0**t


def ou(theta: Any, mu: Any, sigma: Any) -> Law:
    def var(t: float) -> Any:
        return sigma**2 * (1 - np.exp(-2 * theta * t)) / (2 * theta)

    return Law(
        alpha=lambda t: np.exp(-theta * t),
        var=var,
        a=lambda t: -theta,
        g2=lambda t: sigma**2,
        prior_std=np.sqrt(var(1.0)),
        offset=mu,
    )


LAWS = {
    "vp": Law(
        alpha=lambda t: math.exp(-linear_integral(t) / 2),
        var=lambda t: 1 - math.exp(-linear_integral(t)),
        a=lambda t: -linear_beta(t) / 2,
        g2=linear_beta,
        prior_std=1.0,
        beta=lambda t, u: linear_beta(t) * (t - u),
        chain="vp",
    ),
    "vp_cosine": Law(
        alpha=lambda t: math.sqrt(cosine_bar_alpha(t)),
        var=lambda t: 1 - cosine_bar_alpha(t),
        a=lambda t: -cosine_beta(t) / 2,
        g2=cosine_beta,
        prior_std=1.0,
        beta=lambda t, u: min(1 - cosine_bar_alpha(t) / cosine_bar_alpha(u), 0.999),
        chain="vp",
    ),
    "subvp": Law(
        alpha=lambda t: math.exp(-linear_integral(t) / 2),
        var=lambda t: (1 - math.exp(-linear_integral(t))) ** 2,
        a=lambda t: -linear_beta(t) / 2,
        g2=lambda t: linear_beta(t) * (1 - math.exp(-2 * linear_integral(t))),
        prior_std=1.0,
        beta=lambda t, u: linear_beta(t) * (t - u),
    ),
    "ve": Law(
        alpha=lambda t: 1.0,
        var=lambda t: geometric(t) ** 2 - 0.01**2,
        a=lambda t: 0.0,
        g2=lambda t: 2 * math.log(5000.0) * geometric(t) ** 2,
        prior_std=50.0,
        t_min=1e-5,
        sigma=geometric,
        chain="ve",
    ),
    "ve_edm": Law(
        alpha=lambda t: 1.0,
        var=lambda t: t * t,
        a=lambda t: 0.0,
        g2=lambda t: 2 * t,
        prior_std=80.0,
        T=80.0,
        t_min=0.002,
        sigma=lambda t: t,
        chain="ve",
    ),
    "ou": ou(1.3, 0.7, 0.9),
    "brownian": Law(
        alpha=lambda t: 1.0,
        var=lambda t: 1.7**2 * t,
        a=lambda t: 0.0,
        g2=lambda t: 1.7**2,
        prior_std=1.7,
    ),
}


def gaussian(law: Law, t: float, m: Any, s: Any) -> tuple[Any, Any]:
    """Mean and variance of x_t for data N(m, s^2)."""
    alpha = law.alpha(t)
    return law.offset + alpha * (m - law.offset), alpha**2 * s**2 + law.var(t)


def predictor(
    law: Law, name: str, t: float, u: float, eta: float = 0.0, variance: str = "fixed_small"
) -> tuple[Any, Any, Any]:
    """(P, Q, R) of y' = P y + Q score + R z, from time t to u < t."""
    dt = t - u
    if name == "ddim":
        return ddim(law, t, u, eta)
    if name == "ddpm":
        p, q, r = _posterior(law, t, u)
        jump = law.var(t) - (law.alpha(t) / law.alpha(u)) ** 2 * law.var(u)
        return p, q, np.sqrt(jump) if variance == "fixed_large" and u > 0 else r
    if name == "ancestral":
        return _ancestral(law, t, u)
    if name == "euler_maruyama" or law.chain == "euler":
        p, q = 1 - law.a(t) * dt, law.g2(t) * dt
    elif law.chain == "vp":
        p, q = 2 - math.sqrt(1 - law.beta(t, u)), law.beta(t, u)
    else:
        p, q = 1.0, law.sigma(t) ** 2 - law.sigma(u) ** 2
    if name == "probability_flow":
        return p, q / 2, 0.0
    return p, q, np.sqrt(q)


def _ancestral(law: Law, t: float, u: float) -> tuple[Any, Any, Any]:
    if law.chain == "vp":
        beta = law.beta(t, u)
        return 1 / math.sqrt(1 - beta), beta / math.sqrt(1 - beta), math.sqrt(beta)
    if law.chain == "ve":
        high, low = law.sigma(t) ** 2, law.sigma(u) ** 2
        return 1.0, high - low, math.sqrt(low * (high - low) / high)
    return _posterior(law, t, u)


def ddim(law: Law, t: float, u: float, eta: float) -> tuple[Any, Any, Any]:
    """Song, Meng & Ermon 2020, eqs. 12 and 16, with x = y / alpha and its level for any law."""
    abar_ratio = (law.alpha(t) / law.alpha(u)) ** 2
    c = eta * np.sqrt(law.var(u) / law.var(t)) * np.sqrt(law.var(t) - abar_ratio * law.var(u))
    # x_0 = (y + var s) / alpha, eps = -sqrt(var) s.
    to_data, direction = law.alpha(u) / law.alpha(t), np.sqrt(law.var(u) - c**2)
    return to_data, to_data * law.var(t) - direction * np.sqrt(law.var(t)), c


def _posterior(law: Law, t: float, u: float) -> tuple[Any, Any, Any]:
    # Bayes: y_u given y_0 has mean alpha_u y_0 and variance var_u; y_t given y_u has mean r y_u and
    # variance v. Precisions add; y_0 is Tweedie's (y_t + var_t score) / alpha_t.
    r = law.alpha(t) / law.alpha(u)
    v = law.var(t) - r**2 * law.var(u)
    if u == 0.0:
        return 1 / law.alpha(t), law.var(t) / law.alpha(t), 0.0
    precision = 1 / law.var(u) + r**2 / v
    from_data = law.alpha(u) / law.var(u) / law.alpha(t)
    p, q = (r / v + from_data) / precision, from_data * law.var(t) / precision
    return p, q, np.sqrt(1 / precision)


def corrector_alpha(law: Law, grid: np.ndarray, level: int) -> float:
    """1 - beta_i for VP and subVP; the last level steps as far as the one before, down to 0."""
    if law.beta is None:
        return 1.0
    u = grid[level + 1] if level + 1 < len(grid) else max(2 * grid[-1] - grid[-2], 0.0)
    return 1 - law.beta(grid[level], u)


@dataclass(frozen=True)
class Update:
    """x' = P x + Q + R z of a predictor, or of a corrector whose eps is still to be found."""

    kind: str
    step: int
    p: Any
    q: Any
    r: Any
    score: Callable[[Any], Any]
    score_moments: tuple[Any, Any]
    """Mean and variance of x_t where the score is taken."""
    alpha: float = 1.0


def updates(
    law: Law,
    grid: np.ndarray,
    m: Any,
    s: Any,
    *,
    predictor_name: str,
    corrector_name: str = "none",
    snr: float = 0.16,
    inner: int = 1,
    first: bool = False,
    data_std: float = 0.5,
    options: dict[str, Any] | None = None,
) -> list[Update]:
    """The updates of a run in their order, P, Q and R in x's own coordinates."""

    def make(kind: str, step: int, t: float, pqr: tuple[Any, Any, Any], alpha: float) -> Update:
        mean, var = gaussian(law, t, m, s)
        p, q, r = pqr
        offset = law.offset
        return Update(
            kind,
            step,
            p - q / var,
            offset - p * offset + q * mean / var,
            r,
            lambda x: (mean - x) / var,
            (mean, var),
            alpha,
        )

    def correct(i: int, level: int) -> list[Update]:
        t, alpha = grid[level], corrector_alpha(law, grid, level)
        eps = 2 * alpha * snr**2 * law.var(t)
        pqr = (1.0, eps, np.sqrt(2 * eps))
        if corrector_name == "ou":
            # The transition of dy = -y dt + sqrt(2 v) dW over h, with score -y / v.
            v = law.alpha(t) ** 2 * data_std**2 + law.var(t)
            h = 2 * snr**2 * law.var(t) / v
            pqr = (1.0, v * (1 - np.exp(-h)), np.sqrt(v * (1 - np.exp(-2 * h))))
        return [make(corrector_name, i * inner + j, t, pqr, alpha) for j in range(inner)]

    run: list[Update] = []
    for i in range(len(grid) - 1):
        t, u = grid[i], grid[i + 1]
        if corrector_name != "none" and first:
            run += correct(i, i)
        if predictor_name != "none":
            run.append(
                make(
                    "predictor", i, t, predictor(law, predictor_name, t, u, **(options or {})), 1.0
                )
            )
        if corrector_name != "none" and not first:
            run += correct(i, i + 1)
    return run


def moments(law: Law, run: list[Update], denoise: bool) -> tuple[Any, Any]:
    """Exact mean and variance at the end, from the prior."""
    mean, var = law.offset, np.square(law.prior_std)
    for k, u in enumerate(run):
        noise = 0.0 if denoise and k == len(run) - 1 else u.r
        mean, var = u.p * mean + u.q, np.square(u.p) * var + np.square(noise)
    return mean, var
