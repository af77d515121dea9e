"""The same algorithm twice: a scheduler of diffusers in its loop, and ``sdekit.sample``.

The model is the optimal one of N(MEAN, STD^2) data, so that answers mean something; for the clock
it is a tensor made ahead, so that a step costs what it costs besides the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sdekit_kernels
import torch
from torch import Tensor

import sdekit as sk
from sdekit.noise import keys

MEAN, STD = 0.2, 0.5
CHAIN = 1000
SNR = 0.15
SEED = 3

Model = Callable[[Tensor, Tensor], Tensor]
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pair:
    """One algorithm: two runs from the same first state, each with the optimal or the free model.

    noise: for each draw of diffusers' loop, in its order, the (stream, step) of ours.
    """

    name: str
    ours: Callable[[bool], Run]
    theirs: Callable[[bool], Run]
    start: float
    noise: list[tuple[int, int]]


def optimal_eps(sde: sk.AffineSDE) -> Model:
    score = sk.score.Gaussian(MEAN, STD, sde)
    return lambda t, x: -score(t, x) * sde.std(t).to(x.dtype)


def pairs(steps: int) -> list[Pair]:
    """DDPM, DDIM, EDM's Euler, the predictor-corrector of the variance-exploding chain."""
    return [_chain("DDPM", steps), _chain("DDIM", steps), _edm(steps), _ve(steps)]


def _chain(kind: str, steps: int) -> Pair:
    import diffusers

    chain = sk.DDPM.linear(CHAIN)
    ratio = CHAIN // steps
    levels = torch.cat([torch.arange(steps - 1, -1, -1) * ratio + 1, torch.tensor([0])])
    eps = optimal_eps(chain.sde)
    option: dict[str, Any] = {"predictor": kind.lower()}

    def ours(free: bool) -> Run:
        score = sk.score.from_eps(_fixed if free else eps, chain.sde)
        if free:
            score = _fixed
        return lambda x: sk.sample(
            chain.sde,
            score,
            tuple(x.shape),
            times=chain.time(levels),
            x_init=x,
            seed=SEED,
            fuse=False,
            **option,
        )

    def theirs(free: bool) -> Run:
        scheduler = getattr(diffusers, f"{kind}Scheduler")(clip_sample=False)
        scheduler.set_timesteps(steps)

        def model(x: Tensor, t: Tensor) -> Tensor:
            return _fixed(t, x) if free else eps((t + 1.0) / CHAIN, x)

        def run(x: Tensor) -> Tensor:
            for t in scheduler.timesteps:
                x = scheduler.step(model(x, t), t, x).prev_sample
            return x

        return run

    noise = [(keys.PATH, i) for i in range(steps)] if kind == "DDPM" else []
    return Pair(f"{kind}, {steps} of {CHAIN} levels", ours, theirs, 1.0, noise)


def _edm(steps: int) -> Pair:
    import diffusers

    sde = sk.VE("edm", sigma_min=0.002, sigma_max=80.0)
    denoiser = sk.score.Gaussian(MEAN, STD, sde)

    def make() -> Any:
        scheduler = diffusers.EDMEulerScheduler(sigma_data=STD)
        scheduler.set_timesteps(steps)
        return scheduler

    sigmas = make().sigmas

    def ours(free: bool) -> Run:
        score = _fixed if free else denoiser
        return lambda x: sk.sample(
            sde, score, tuple(x.shape), times=sigmas, x_init=x, predictor="ddim", fuse=False
        )

    def theirs(free: bool) -> Run:
        def raw(x: Tensor, sigma: Tensor) -> Tensor:
            # F such that c_skip x + c_out F is the optimal denoiser.
            d = x + sigma**2 * denoiser(sigma, x)
            norm = (sigma**2 + STD**2).sqrt()
            return (d - (STD / norm) ** 2 * x) * norm / (sigma * STD)

        def run(x: Tensor) -> Tensor:
            scheduler = make()
            for i, t in enumerate(scheduler.timesteps):
                scaled = scheduler.scale_model_input(x, t)
                out = _fixed(t, scaled) if free else raw(x, scheduler.sigmas[i])
                x = scheduler.step(out, t, x).prev_sample
            return x

        return run

    return Pair(f"EDM Euler, {steps} levels", ours, theirs, 80.0, [])


def _ve(steps: int) -> Pair:
    import diffusers

    sde = sk.VE("geometric", sigma_min=0.01, sigma_max=50.0)

    def score(t: Tensor, x: Tensor) -> Tensor:
        sigma = sde.schedule.sigma(t).to(x.dtype)
        return -(x - MEAN) / (sigma**2 + STD**2)

    # Their last step goes from sigma_min to 0, which is no level: both loops end before it.
    times = torch.arange(steps - 1, -1, -1, dtype=torch.float64) / (steps - 1)

    def ours(free: bool) -> Run:
        return lambda x: sk.sample(
            sde,
            _fixed if free else score,
            tuple(x.shape),
            times=times,
            x_init=x,
            predictor="reverse_diffusion",
            corrector="langevin",
            corrector_first=True,
            norm="batch",
            snr=SNR,
            denoise=False,
            seed=SEED,
            fuse=False,
        )

    def theirs(free: bool) -> Run:
        scheduler = diffusers.ScoreSdeVeScheduler(snr=SNR, sigma_min=0.01, sigma_max=50.0)
        scheduler.set_timesteps(steps)
        scheduler.set_sigmas(steps)

        def model(x: Tensor, t: Tensor) -> Tensor:
            return _fixed(t, x) if free else score(t, x)

        def run(x: Tensor) -> Tensor:
            for k, t in enumerate(scheduler.timesteps[:-1]):
                level = times[k].float()
                x = scheduler.step_correct(model(x, level), x).prev_sample
                x = scheduler.step_pred(model(x, level), t, x).prev_sample
            return x

        return run

    noise = [(s, i) for i in range(steps - 1) for s in (keys.CORRECTOR, keys.PATH)]
    return Pair(f"ScoreSdeVe, {steps} levels, predictor and corrector", ours, theirs, 50.0, noise)


def with_our_noise(run: Run, x: Tensor, noise: list[tuple[int, int]]) -> Tensor:
    """Their loop with our normals in the place of torch's."""
    from diffusers.schedulers import scheduling_ddpm, scheduling_sde_ve

    draws = iter(noise)

    def drawn(shape: Any, **_: Any) -> Tensor:
        stream, step = next(draws)
        return sdekit_kernels.normal(tuple(shape), seed=SEED, stream=stream, step=step)

    modules = (scheduling_ddpm, scheduling_sde_ve)
    kept = [module.randn_tensor for module in modules]
    for module in modules:
        module.randn_tensor = drawn
    try:
        return run(x)
    finally:
        for module, function in zip(modules, kept, strict=True):
            module.randn_tensor = function


_KEPT: dict[torch.Size, Tensor] = {}


def _fixed(t: Tensor, x: Tensor) -> Tensor:
    """What costs nothing: the same small tensor each time."""
    if x.shape not in _KEPT:
        _KEPT[x.shape] = 1e-3 * sdekit_kernels.normal(tuple(x.shape), seed=1)
    return _KEPT[x.shape]
