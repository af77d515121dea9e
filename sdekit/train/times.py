"""Which times a training loss looks at: stratified over a batch, uniform in t or in log-SNR."""

from __future__ import annotations

from typing import Final, final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor

from sdekit.noise import keys
from sdekit.sde import AffineSDE

TIME_STREAM: Final = keys.TRAIN + 1
PROPOSALS: Final = ("uniform", "log_snr")

_NODES = 1025


@final
class TimeSampler:
    r"""Random times t = Q(u), u uniform on [0, 1), and the factor that undoes the choice of Q.

    Q is increasing and piecewise linear, from t_min to T, so that its density 1 / Q'(u) is known
    exactly and the objective stays the same whatever Q is:

        (1 / (T - t_min)) \int_{t_min}^T h(t) dt = E_u[h(Q(u)) w(u)],  w = Q'(u) / (T - t_min).

    proposal: "uniform", Q' constant; or "log_snr", even in log(sigma(t) / alpha(t)) (Kingma et al.
    2021), where h of the likelihood weighting has the least spread.

    The u of a batch are stratified, u_i = (i + v) / B with one v a step: the mean over a batch then
    integrates a smooth h with an error of order 1 / B, instead of 1 / sqrt(B) (Kingma et al. 2021,
    appendix I.1).

    Raises TypeError for an SDE that is not affine, ValueError unless 0 < t_min < T, for an unknown
    proposal, or for "log_snr" with parameters per component (there is no one SNR then).
    """

    def __init__(
        self, sde: AffineSDE, *, proposal: str = "uniform", t_min: float | None = None
    ) -> None:
        if not isinstance(sde, AffineSDE):
            raise TypeError(f"sde must be an AffineSDE, whose marginals are known, got {sde!r}")
        self.proposal = check_choice("proposal", proposal, PROPOSALS)
        self.t_min = float(sde.t_min_likelihood if t_min is None else t_min)
        self.t_max = float(sde.T)
        if not 0.0 < self.t_min < self.t_max:
            raise ValueError(f"t_min must be above 0 and below T = {sde.T:g}, got {t_min!r}")
        ends = torch.tensor([self.t_min, self.t_max], dtype=torch.float64)
        self._nodes = ends if proposal == "uniform" else _even_in_log_snr(sde, ends)

    def __call__(self, n: int, *, seed: int, step: int = 0) -> tuple[Tensor, Tensor]:
        """Times (n,) and their factors w (n,), both float64; ``step`` names the draw."""
        n = check_int_range("n", n, 1, 1 << 31)
        z = sdekit_kernels.normal((1,), seed=seed, stream=TIME_STREAM, step=step)
        shift = torch.special.ndtr(z.double())
        u = (torch.arange(n, dtype=torch.float64) + shift) / n
        return self.quantile(u)

    def quantile(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Q(u) and w(u) for u in [0, 1], float64."""
        cells = len(self._nodes) - 1
        place = u.double() * cells
        cell = place.floor().clamp(0, cells - 1)
        low = self._nodes[cell.long()]
        width = self._nodes[cell.long() + 1] - low
        return low + (place - cell) * width, width * cells / (self.t_max - self.t_min)


def _even_in_log_snr(sde: AffineSDE, ends: Tensor) -> Tensor:
    """Times at which log(sigma / alpha) takes evenly spaced values, by bisection in log t."""
    if sde.event_shape is not None:
        raise ValueError(
            "proposal='log_snr' needs one signal-to-noise ratio for all components, but the SDE "
            f"has parameters of event shape {sde.event_shape}: use 'uniform'"
        )

    def level(t: Tensor) -> Tensor:
        return sde.std(t).log() - sde.log_mean_ratio(torch.zeros_like(t), t)

    span = level(ends)
    share = torch.linspace(0, 1, _NODES, dtype=torch.float64)
    wanted = span[0] + share * (span[1] - span[0])
    low = ends[0].log().expand(_NODES).clone()
    high = ends[1].log().expand(_NODES).clone()
    # 50 halvings: from the span of log t, about 10, to the rounding of float64.
    for _ in range(50):
        middle = 0.5 * (low + high)
        below = level(middle.exp()) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    nodes = (0.5 * (low + high)).exp()
    nodes[0], nodes[-1] = ends[0], ends[1]
    return nodes
