r"""Running an equation backwards, given the score s(t, x) of its law: Anderson 1982.

If x_t follows dx = f dt + G dW and has density p_t with score s = grad log p_t, then for every eta
>= 0

    dx = [f - (1 + eta^2) / 2 (div(G G^T) + G G^T s)] dt + eta G dW,

run from T down to 0, has the same law p_t at every time: eta = 1 is Anderson's reverse-time SDE,
eta = 0 the probability-flow ODE (Song et al. 2021, appendix D.1), and all between are mixtures of
the two (Zhang & Chen 2021). The convention here: ``drift`` is the bracket, ``diffusion`` is eta G,
and a solver runs them over a grid of *decreasing* times, dt < 0, with sqrt(|dt|) before the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, final

import torch
from sdekit_kernels.checks import check_choice, check_positive
from torch import Tensor

from sdekit.sde.base import SDE, check_output
from sdekit.sde.derivatives import along, jacobian_diagonal, value_and_slope
from sdekit.sde.parameters import event_sum

Score = Callable[[Tensor, Tensor], Tensor]
NoiseDivergence = Literal["exact", "elementwise", "zero"]


@final
class ReverseSDE(SDE):
    r"""The time reversal of ``sde``, dx = [f - (1 + eta^2)/2 (div(G G^T) + G G^T s)] dt + eta G dW.

    sde: any object with ``drift`` and ``diffusion``, of additive, diagonal or scalar noise. score:
    any callable (t, x) -> x's shape. eta: 1 the reverse-time SDE, 0 the probability flow;
    above 1 the law is the same as well, with more noise than either.
    Where the noise is additive, G G^T s = g^2 s and the divergence is zero. Where it depends on x:

    - diagonal: G G^T s = g^2 s, div(G G^T)_i = d(g_i^2)/dx_i;
    - scalar, G = g a column: G G^T s = g (g . s), div(G G^T) = (dg/dx) g + g div g.

    noise_divergence says how: "exact" takes the diagonal of dg/dx, by D vectorized directional
    derivatives; "elementwise" takes one, right only if g_i depends on x_i alone (diagonal noise);
    "zero" takes none, right only if g does not depend on x.
    Raises ValueError for general noise, eta < 0, an unknown ``noise_divergence``, or a Stratonovich
    equation with state-dependent noise (its Ito form must be given); and, when called, if the
    score's shape is wrong.
    """

    def __init__(
        self,
        sde: Any,
        score: Score,
        eta: float = 1.0,
        *,
        noise_divergence: NoiseDivergence = "exact",
    ) -> None:
        self.sde, self.score = sde, score
        self.eta = check_positive("eta", eta, allow_zero=True)
        self.noise_divergence = _check_reversible(sde, score, noise_divergence)
        self.deterministic = self.eta == 0.0
        self.noise_type = "additive" if self.deterministic else _noise_type(sde)
        self.time_direction = "either" if self.deterministic else "backward"

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """The bracket of the class's equation, of x's shape."""
        return _reverse_drift(self, 0.5 * (1.0 + self.eta**2), t, x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """``eta`` times G, in the form of the forward equation; a 0-d zero for eta = 0."""
        if self.deterministic:
            return torch.zeros((), dtype=x.dtype, device=x.device)
        g: Tensor = self.eta * self.sde.diffusion(t, x)
        return g


@final
class ProbabilityFlow(SDE):
    """The ODE dx = [f - (div(G G^T) + G G^T s) / 2] dt, which has the law of ``sde`` at every time.

    ``ReverseSDE`` with eta = 0, right in both directions of time; arguments and errors as there.
    """

    noise_type = "additive"
    deterministic = True
    time_direction = "either"

    def __init__(
        self, sde: Any, score: Score, *, noise_divergence: NoiseDivergence = "exact"
    ) -> None:
        self.sde, self.score = sde, score
        self.noise_divergence = _check_reversible(sde, score, noise_divergence)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """``f`` - (div(G G^T) + G G^T s) / 2, of x's shape."""
        return _reverse_drift(self, 0.5, t, x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """0, as a 0-d tensor."""
        return torch.zeros((), dtype=x.dtype, device=x.device)


def _noise_type(sde: Any) -> Any:
    return getattr(sde, "noise_type", "diagonal")


def _check_reversible(sde: Any, score: Any, noise_divergence: str) -> NoiseDivergence:
    """Capabilities, checked once at the door."""
    for name in ("drift", "diffusion"):
        if not callable(getattr(sde, name, None)):
            raise TypeError(f"sde must have drift(t, x) and diffusion(t, x), got {sde!r}")
    if not callable(score):
        raise TypeError(f"score must be callable as score(t, x), got {type(score).__name__}")
    noise = _noise_type(sde)
    if noise not in ("additive", "diagonal", "scalar"):
        raise ValueError(
            f"a reverse needs additive, diagonal or scalar noise, {type(sde).__name__} has "
            f"{noise} noise: write it with one of these"
        )
    if getattr(sde, "interpretation", "ito") != "ito" and noise != "additive":
        raise ValueError(
            f"a reverse needs the Ito form, {type(sde).__name__} is a Stratonovich equation with "
            f"{noise} noise: write sdekit.to_ito(sde), the same process"
        )
    check_choice("noise_divergence", noise_divergence, ("exact", "elementwise", "zero"))
    if noise == "scalar" and noise_divergence == "elementwise":
        raise ValueError(
            "noise_divergence='elementwise' is for diagonal noise, this SDE has scalar noise: "
            "use 'exact', or 'zero' if its diffusion does not depend on x"
        )
    return noise_divergence  # type: ignore[return-value]


def _reverse_drift(reverse: Any, weight: float, t: Tensor, x: Tensor) -> Tensor:
    """``f`` - weight (div(G G^T) + G G^T s)."""
    sde, noise = reverse.sde, _noise_type(reverse.sde)
    score = check_output("score", reverse.score(t, x), x)
    g = sde.diffusion(t, x)
    if noise == "scalar":
        g = g.expand_as(x)
        inner = event_sum(g * score).view(-1, *([1] * (x.ndim - 1)))
        pull = g * inner
    else:
        pull = g.square() * score
    if noise != "additive" and reverse.noise_divergence != "zero":
        pull = pull + _noise_divergence(sde, noise, reverse.noise_divergence, t, x)
    drift: Tensor = sde.drift(t, x) - weight * pull
    return drift


def _noise_divergence(sde: Any, noise: str, how: NoiseDivergence, t: Tensor, x: Tensor) -> Tensor:
    """div(G G^T) of x's shape, for diagonal or scalar noise."""

    def g_of(x: Tensor) -> Tensor:
        g: Tensor = sde.diffusion(t, x)
        return g.expand_as(x)

    what = f"{type(sde).__name__}.diffusion"
    if how == "elementwise":
        g, slope = value_and_slope(g_of, x, what)
        return 2.0 * g * slope
    g = g_of(x)
    diagonal = jacobian_diagonal(g_of, x, what)
    if noise == "diagonal":
        return 2.0 * g * diagonal
    trace = event_sum(diagonal).view(-1, *([1] * (x.ndim - 1)))
    return along(g_of, x, g, what) + g * trace
