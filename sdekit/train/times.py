"""Which times a training loss looks at: stratified over a batch, spread by one of three laws."""

from __future__ import annotations

from typing import Final, Protocol, final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from torch import Tensor

from sdekit.likelihood.pointwise import check_affine
from sdekit.noise import keys
from sdekit.sde import AffineSDE
from sdekit.train.weighting import LogNormal, Weighting, level, level_rate, likelihood

TIME_STREAM: Final = keys.TRAIN + 1
PROPOSALS: Final = ("uniform", "log_snr", "lognormal")

_NODES = 1025


class Times(Protocol):
    """Times of a batch, and the factors that undo the choice of them: see ``TimeSampler``."""

    def __call__(self, n: int, *, seed: int, step: int = 0) -> tuple[Tensor, Tensor]:
        """Times (n,) and their factors (n,), both float64; ``step`` names the draw."""


def stratified(n: int, *, seed: int, step: int = 0) -> Tensor:
    """u_i = v + i / n modulo 1 with one uniform v a step, (n,) in float64.

    Each u_i is uniform on [0, 1). Drawn from the stream ``TIME_STREAM``. Raises TypeError or
    ValueError unless n is an integer above 0.
    """
    n = check_int_range("n", n, 1, 1 << 31)
    z = sdekit_kernels.normal((1,), seed=seed, stream=TIME_STREAM, step=step)
    v = torch.special.ndtr(z.double())
    return (v + torch.arange(n, dtype=torch.float64) / n).remainder(1.0)


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
        self._nodes = times_of_levels(sde, levels, ends)

    def __call__(self, n: int, *, seed: int, step: int = 0) -> tuple[Tensor, Tensor]:
        """Times (n,) and their factors w (n,), both float64; ``step`` names the draw."""
        return self.quantile(stratified(n, seed=seed, step=step))

    def quantile(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Q(u) and w(u) for u in [0, 1], float64."""
        cells = len(self._nodes) - 1
        place = u.double() * cells
        cell = place.floor().clamp(0, cells - 1).long()
        low = self._nodes[cell]
        width = self._nodes[cell + 1] - low
        return low + (place - cell) * width, width * cells / (self.t_max - self.t_min)


@final
class Levels:
    """Finitely many times, each as likely as the others, stratified over a batch; factors 1.

    times: (L,) increasing. ``Levels.even(sde, L)``: even in log(sigma / alpha) from t_min to T,
    geometric in sigma for a VE equation. Raises TypeError or ValueError for other times.
    """

    def __init__(self, times: Tensor) -> None:
        self.times = torch.as_tensor(times).detach().to("cpu", torch.float64)
        if self.times.ndim != 1 or len(self.times) == 0 or not bool((self.times.diff() > 0).all()):
            raise ValueError(f"times must be (L,), L >= 1, and increase, got {times!r}")

    @classmethod
    def even(cls, sde: AffineSDE, n: int, *, t_min: float | None = None) -> Levels:
        """n levels, 2 or more; raises as ``TimeSampler``."""
        n = check_int_range("levels", n, 2, 1 << 31)
        span = TimeSampler(sde, proposal="log_snr", t_min=t_min)
        ends = torch.tensor([span.t_min, span.t_max], dtype=torch.float64)
        low, high = level(sde, ends).tolist()
        share = torch.linspace(0, 1, n, dtype=torch.float64)
        return cls(times_of_levels(sde, low + share * (high - low), ends))

    def __call__(self, n: int, *, seed: int, step: int = 0) -> tuple[Tensor, Tensor]:
        """Times (n,) and their factors (n,), both float64; ``step`` names the draw."""
        t = self.times[pick(len(self.times), n, seed=seed, step=step)]
        return t, torch.ones_like(t)


def pick(levels: int, n: int, *, seed: int, step: int = 0) -> Tensor:
    """Indices (n,) int64, each uniform on 0..levels - 1, stratified over the n."""
    u = stratified(n, seed=seed, step=step)
    return (u * levels).long().clamp(max=levels - 1)


def default_times(sde: AffineSDE, weighting: Weighting) -> TimeSampler:
    """The times that fit a weighting: under them its squared errors of eps weigh about the same.

    "likelihood" has importance-sampled times of density g^2 / sigma^2 (Song et al. 2021, arXiv
    2101.09258, section 5), which is "log_snr"; ``LogNormal`` has its own law of the level; the
    others, and equations with parameters per component, have uniform ones.
    Raises TypeError for an SDE that is not affine.
    """
    check_affine(sde)
    if sde.event_shape is None and weighting is likelihood:
        return TimeSampler(sde, proposal="log_snr")
    if sde.event_shape is None and isinstance(weighting, LogNormal):
        return TimeSampler(sde, proposal="lognormal", mean=weighting.mean, std=weighting.std)
    return TimeSampler(sde)


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


def times_of_levels(sde: AffineSDE, levels: Tensor, ends: Tensor) -> Tensor:
    """The times in [ends[0], ends[1]] at which ``level`` has these values, in increasing order.

    By Newton's method in log t, in float64, and by bisection where that would leave the bracket;
    the first and the last are the ends themselves.
    """
    first, last = ends.log().tolist()
    grid = torch.linspace(first, last, 4097, dtype=torch.float64)
    cell = torch.searchsorted(level(sde, grid.exp()), levels).clamp(1, len(grid) - 1)
    low, high = grid[cell - 1], grid[cell]
    place = 0.5 * (low + high)
    # About 5 rounds, 1 to 3 ms in all; 45 halvings are enough from a cell, 3e-3 wide.
    for _ in range(45):
        t = place.exp()
        above = level(sde, t) - levels
        low, high = torch.where(above < 0, place, low), torch.where(above < 0, high, place)
        guess = place - above / (t * level_rate(sde, t))
        # The roots at the ends are beside the bracket by a rounding.
        inside = (guess >= low - 1e-9) & (guess <= high + 1e-9)
        new = torch.where(inside, guess.clamp(low, high), 0.5 * (low + high))
        moved = (new - place).abs().max()
        place = new
        if moved < 1e-12:
            break
    nodes = place.exp()
    nodes[0], nodes[-1] = ends[0], ends[1]
    return nodes
