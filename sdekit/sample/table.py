"""The samplers by name, each with one signature: for command lines and comparisons.

``SAMPLERS["ddim"](sde, score, (64, 1, 28, 28), steps=50, seed=0)`` draws images; a sampler's own
function has all its options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.sample.annealed_langevin import annealed_langevin
from sdekit.sample.edm_heun import edm_heun
from sdekit.sample.flow_sample import flow_sample
from sdekit.sample.grid import polynomial_times, uniform_times
from sdekit.sample.levels import chain_times, levels_at, times_of_levels
from sdekit.sample.ncsnv2 import langevin_step_size
from sdekit.sample.sample import sample
from sdekit.sample.start import Score, check_score, check_shape, evaluate
from sdekit.sde import AffineSDE
from sdekit.sde.parameters import at, shifted
from sdekit.sde.schedules import IdentitySigma

__all__ = ["SAMPLERS", "Sampler", "langevin_rule", "times_down", "times_to_data"]

_LANGEVIN_STEPS = 5
_FEW = 32


@dataclass(frozen=True, slots=True)
class Sampler:
    """A sampler as a function (sde, score, shape, *, steps, seed, ...) -> x, or (x, info).

    weak_order: the order in 1 / steps at which moments converge, None where steps do not decide.
    evaluations: of the score for so many steps, None where a tolerance decides. about: one line.
    steps: how many if none are given, as many as it is usually run with.
    """

    draw: Callable[..., Any]
    weak_order: int | None
    evaluations: Callable[[int], int] | None
    about: str
    steps: int = 100

    def __call__(
        self,
        sde: AffineSDE,
        score: Score,
        shape: Any,
        *,
        steps: int | None = None,
        seed: Any = 0,
        **how: Any,
    ) -> Any:
        """Draws of the data, (B, D...).

        how: first_sample, samples, dtype, device, backend, progress, return_info, as for
        ``sdekit.sample.sample``, and what the sampler's own function takes.
        """
        n = check_int_range("steps", self.steps if steps is None else steps, 1, 1 << 31)
        return self.draw(sde, score, shape, n, seed=seed, **how)


def times_down(sde: AffineSDE, steps: int) -> Tensor:
    """From T to ``sde.t_min``: equal steps, or short ones near the data where sigma(t) = t."""
    uneven = isinstance(getattr(sde, "schedule", None), IdentitySigma)
    return polynomial_times(sde, steps) if uneven else uniform_times(sde, steps)


def times_to_data(sde: AffineSDE, steps: int) -> Tensor:
    """From T to 0: a chain's levels where the equation is a chain's and has as many.

    Raises ValueError for one step where sigma(t) = t: two are needed.
    """
    schedule = getattr(sde, "schedule", None)
    if isinstance(schedule, IdentitySigma):
        zero = torch.zeros(1, dtype=torch.float64)
        return torch.cat(
            [polynomial_times(sde, check_int_range("steps", steps, 2, 1 << 31) - 1), zero]
        )
    betas = getattr(schedule, "betas", None)
    if betas is not None and steps <= len(betas):
        return chain_times(sde, steps)
    return uniform_times(sde, steps, t_min=0.0)


def _walk(grid: Callable[[AffineSDE, int], Tensor], **fixed: Any) -> Callable[..., Any]:
    """``sample`` on a grid, with these arguments."""

    def draw(sde: AffineSDE, score: Score, shape: Any, steps: int, **how: Any) -> Any:
        return sample(sde, score, shape, **{"times": grid(sde, steps), **fixed, **how})

    return draw


def langevin_rule(event_shape: Sequence[int]) -> str:
    """The corrector for events of this shape: "langevin" from 32 components on, else "annealed".

    Both are Song et al. 2021's. The step size by each sample's own norms widens few components, in
    2 of them by any factor (see ``correctors.langevin``); their means over the batch do not, but
    then a sample would depend on the others.
    """
    return "langevin" if math.prod(event_shape) >= _FEW else "annealed"


def _pc(sde: AffineSDE, score: Score, shape: Any, steps: int, **how: Any) -> Any:
    """The corrector that is asked for; else by the number of components, where no norm is named."""
    if "norm" not in how:
        how = {"corrector": langevin_rule(check_shape(shape)[1:]), **how}
    fixed = {"predictor": "reverse_diffusion", "corrector": "langevin"}
    return sample(sde, score, shape, **{"times": times_down(sde, steps), **fixed, **how})


def _pc_ou(sde: AffineSDE, score: Score, shape: Any, steps: int, **how: Any) -> Any:
    """With the std of the data that the network was made for, if the score is one that says it."""
    fixed = {"predictor": "reverse_diffusion", "corrector": "ou"}
    own = getattr(score, "data_std", None)
    if own is not None and how.get("corrector", "ou") == "ou":
        fixed["data_std"] = own
    return sample(sde, score, shape, **{"times": times_down(sde, steps), **fixed, **how})


def _edm(churn: bool) -> Callable[..., Any]:
    def draw(sde: AffineSDE, score: Score, shape: Any, steps: int, **how: Any) -> Any:
        # S_churn of the paper's CIFAR-10 runs is up to 80, of ImageNet 40, whatever the steps: the
        # cut at sqrt(2) - 1 a step makes it 0.41 there too.
        options = {"churn": 40.0, "churn_min": 0.05} if churn else {}
        return edm_heun(sde, score, shape, steps=steps, **{**options, **how})

    return draw


def _annealed(sde: AffineSDE, score: Score, shape: Any, steps: int, **how: Any) -> Any:
    """``steps`` levels in equal ratios from that at T to that at t_min, five steps at each."""
    check_score(score)
    ends = torch.tensor([sde.T, sde.t_min], dtype=torch.float64)
    high, low = levels_at(sde, ends).log().tolist()
    n = check_int_range("steps", steps, 2, 1 << 31)
    sigmas = torch.linspace(high, low, n, dtype=torch.float64).exp()
    # The rounding of exp must not lead beyond T.
    sigmas[0] = float(levels_at(sde, ends[:1]))
    times = times_of_levels(sde, sigmas)
    alphas = sde.mean_coefficient(times).expand_as(times)

    table: list[Tensor] = []

    def blurred(sigma: Tensor, x: Tensor) -> Tensor:
        """Score of data + sigma z at x: alpha s(t, offset + alpha (x - offset))."""
        if not table:
            # Copied to the device once: a copy in each step would wait for it.
            table.append(torch.stack([sigmas, times, alphas]).to(sigma))
        k = (table[0][0] - sigma).abs().argmin()
        t, alpha = table[0][1, k], table[0][2, k].to(x.dtype)
        own = shifted(alpha * sde.centered(x), at(sde.offset, x))
        return alpha * evaluate(score, t, own)

    step = langevin_step_size(float(sigmas[0] / sigmas[1]), _LANGEVIN_STEPS, float(sigmas[-1]))
    options = {"steps_each": _LANGEVIN_STEPS, "eps": 2.0 * step}
    return annealed_langevin(blurred, sigmas, shape, **{**options, **how})


def _flow(sde: AffineSDE, score: Score, shape: Any, steps: int, **how: Any) -> Any:
    """``steps`` and a progress bar have no part in it: each sample takes the steps it needs."""
    how.pop("progress", None)
    return flow_sample(sde, score, shape, **how)


def _same(n: int) -> int:
    return n


def _twice(n: int) -> int:
    return 2 * n


SAMPLERS: dict[str, Sampler] = {
    "euler_maruyama": Sampler(
        _walk(times_down, predictor="euler_maruyama"), 1, _same, "Euler's step of the reversed SDE"
    ),
    "reverse_diffusion": Sampler(
        _walk(times_down, predictor="reverse_diffusion"), 1, _same, "the forward chain reversed"
    ),
    "ancestral": Sampler(
        _walk(times_down, predictor="ancestral"), 1, _same, "the published chain's posterior"
    ),
    "probability_flow": Sampler(
        _walk(times_down, predictor="probability_flow"), 1, _same, "Euler's step of the flow"
    ),
    "pc": Sampler(
        _pc,
        None,
        _twice,
        "reverse diffusion and a Langevin step (Song et al. 2021), sized by signal to noise, or by "
        "the noise level for less than 32 components",
        1000,
    ),
    "pc_ou": Sampler(
        _pc_ou,
        1,
        _twice,
        "reverse diffusion and an exact Ornstein-Uhlenbeck step",
        1000,
    ),
    "ddpm": Sampler(
        _walk(times_to_data, predictor="ddpm"), 1, _same, "DDPM with the posterior's variance"
    ),
    "ddpm_large": Sampler(
        _walk(times_to_data, predictor="ddpm", variance="fixed_large"),
        1,
        _same,
        "DDPM with the forward step's variance",
    ),
    "ddim": Sampler(_walk(times_to_data, predictor="ddim"), 1, _same, "DDIM without noise", 50),
    "ddim_half": Sampler(
        _walk(times_to_data, predictor="ddim", eta=0.5),
        1,
        _same,
        "DDIM with half of DDPM's noise",
        50,
    ),
    "edm_heun": Sampler(
        _edm(churn=False), 2, lambda n: 2 * n - 1, "Heun's step of the flow on EDM's levels", 18
    ),
    "edm_churn": Sampler(
        _edm(churn=True), 2, lambda n: 2 * n - 1, "the same with noise added before each step", 18
    ),
    "flow": Sampler(_flow, None, None, "the probability flow by an adaptive solver"),
    "annealed_langevin": Sampler(
        _annealed,
        None,
        lambda n: _LANGEVIN_STEPS * n + 1,
        "five Langevin steps at each of the levels (NCSNv2)",
    ),
}
