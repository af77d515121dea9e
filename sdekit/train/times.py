"""Which times a training loss looks at: stratified over a batch, spread by one of three laws."""

from __future__ import annotations

from typing import Final, final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from torch import Tensor

from sdekit.noise import keys
from sdekit.sde import AffineSDE
from sdekit.train.weighting import level

TIME_STREAM: Final = keys.TRAIN + 1
PROPOSALS: Final = ("uniform", "log_snr", "lognormal")

_NODES = 1025


@final
class TimeSampler:
    r"""Random times t = Q(u), u uniform on [0, 1), and the factor that undoes the choice of Q.

    Q is increasing and piecewise linear, from t_min to T, so that its density 1 / Q'(u) is known
    exactly and the objective stays the same whatever Q is:

        (1 / (T - t_min)) \int_{t_min}^T h(t) dt = E_u[h(Q(u)) w(u)],  w = Q'(u) / (T - t_min).

    proposal: "uniform", Q' constant; "log_snr", even in the level l = log(sigma(t) / alpha(t))
    (Kingma et al. 2021), which fits the weighting "likelihood"; "lognormal", l normal with ``mean``
    and ``std`` (Karras et al. 2022), cut at the ends, which fits the weighting of that name.

    The u of a batch are stratified, u_i = v + i / B modulo 1 with one v a step: the mean over a
    batch then integrates a smooth h with an error of order 1 / B, instead of 1 / sqrt(B) (Kingma et
    al. 2021, appendix I.1). Each u_i is uniform on all of [0, 1), so that every place in the batch
    sees every time.

    Raises TypeError for an SDE that is not affine, ValueError unless 0 < t_min < T, for an unknown
    proposal, or for a law of the level with parameters per component (there is no one level then).
    """

    def __init__(
        self,
        sde: AffineSDE,
        *,
        proposal: str = "uniform",
        t_min: float | None = None,
        mean: float = -1.2,
        std: float = 1.2,
    ) -> None:
        if not isinstance(sde, AffineSDE):
            raise TypeError(f"sde must be an AffineSDE, whose marginals are known, got {sde!r}")
        self.proposal = check_choice("proposal", proposal, PROPOSALS)
        self.t_min = float(sde.t_min_likelihood if t_min is None else t_min)
        self.t_max = float(sde.T)
        if not 0.0 < self.t_min < self.t_max:
            raise ValueError(f"t_min must be above 0 and below T = {sde.T:g}, got {t_min!r}")
        ends = torch.tensor([self.t_min, self.t_max], dtype=torch.float64)
        if proposal == "uniform":
            self._nodes = ends
            return
        if sde.event_shape is not None:
            raise ValueError(
                f"proposal={proposal!r} needs one signal-to-noise ratio for all components, but "
                f"the SDE has parameters of event shape {sde.event_shape}: use 'uniform'"
            )
        low, high = level(sde, ends).tolist()
        share = torch.linspace(0, 1, _NODES, dtype=torch.float64)
        if proposal == "log_snr":
            levels = low + share * (high - low)
        else:
            levels = _normal_levels(low, high, share, float(mean), check_positive("std", std))
        self._nodes = _times_of(sde, levels, ends)

    def __call__(self, n: int, *, seed: int, step: int = 0) -> tuple[Tensor, Tensor]:
        """Times (n,) and their factors w (n,), both float64; ``step`` names the draw."""
        n = check_int_range("n", n, 1, 1 << 31)
        z = sdekit_kernels.normal((1,), seed=seed, stream=TIME_STREAM, step=step)
        v = torch.special.ndtr(z.double())
        return self.quantile((v + torch.arange(n, dtype=torch.float64) / n).remainder(1.0))

    def quantile(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Q(u) and w(u) for u in [0, 1], float64."""
        cells = len(self._nodes) - 1
        place = u.double() * cells
        cell = place.floor().clamp(0, cells - 1).long()
        low = self._nodes[cell]
        width = self._nodes[cell + 1] - low
        return low + (place - cell) * width, width * cells / (self.t_max - self.t_min)


def _normal_levels(low: float, high: float, share: Tensor, mean: float, std: float) -> Tensor:
    """Quantiles of a normal law cut to [low, high]."""
    # A law of no more than 8 stds: beyond, the normal distribution function rounds to 0 or 1.
    ends = torch.tensor([(low - mean) / std, (high - mean) / std], dtype=torch.float64)
    first, last = torch.special.ndtr(ends.clamp(-8.0, 8.0)).tolist()
    if not first < last:
        raise ValueError(
            f"mean={mean:g}, std={std:g} put the noise levels outside of the SDE's "
            f"[{low:.3g}, {high:.3g}] (log of sigma / alpha): choose a mean within"
        )
    levels = mean + std * torch.special.ndtri(first + share * (last - first))
    levels = levels.clamp(low, high)
    levels[0], levels[-1] = low, high
    return levels


def _times_of(sde: AffineSDE, levels: Tensor, ends: Tensor) -> Tensor:
    """The times at which ``level`` has these values, by bisection in log t."""
    low = ends[0].log().expand_as(levels).clone()
    high = ends[1].log().expand_as(levels).clone()
    # 50 halvings: from the span of log t, about 10, to the rounding of float64.
    for _ in range(50):
        middle = 0.5 * (low + high)
        below = level(sde, middle.exp()) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    nodes = (0.5 * (low + high)).exp()
    nodes[0], nodes[-1] = ends[0], ends[1]
    return nodes
