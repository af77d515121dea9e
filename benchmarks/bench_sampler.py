"""The predictor-corrector sampler beside the same loop in eager torch.

VP, reverse-diffusion predictor, Langevin corrector by signal-to-noise ratio; the data are Gaussian,
so the variance that the sampler must give is known exactly for any number of steps. Two scores: the
closed form (cheap: the update is what is timed) and the MLP, whose first state is the exact score
of N(0, data_std^2) while it costs what a trained network costs. Of 64 components and a closed form
the whole run is one kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import sdekit as sk
from benchmarks.checks import STANDARD_ERRORS, moment_error, sampler_variance
from benchmarks.problems import SNR, Loop, make_loop
from benchmarks.rivals import eager_sampler

STEPS = 100
CASES = [
    ((256, 784), "closed form"),
    ((64, 3, 32, 32), "closed form"),
    ((4096, 64), "closed form"),
    ((256, 64), "MLP"),
]


def runner(contender: str, loop: Loop, shape: tuple[int, ...]) -> Callable[[], Tensor]:
    if contender == "sdekit":
        return lambda: sk.sample(
            loop.sde,
            loop.score,
            shape,
            steps=STEPS,
            predictor="reverse_diffusion",
            corrector="langevin",
            snr=SNR,
            seed=0,
        )
    return lambda: eager_sampler(
        loop.score,
        torch.randn(shape),
        times=loop.times,
        predictor=loop.predictor,
        alpha=loop.alpha,
        snr=SNR,
    )


@pytest.mark.parametrize("contender", ["sdekit", "eager torch"])
@pytest.mark.parametrize(("shape", "score"), CASES)
def test_sampler(clock: Any, contender: str, shape: tuple[int, ...], score: str) -> None:
    torch.manual_seed(0)
    loop = make_loop(shape, score, STEPS)
    run = runner(contender, loop, shape)
    x = run()
    variance = sampler_variance(loop.predictor, loop.alpha, loop.marginal_variance, SNR, 1.0)
    # The recursion is the limit of many components: its relative error of order 1 / D in the
    # variance, in the units of the check.
    finite = 4.0 / math.prod(shape[1:]) * math.sqrt(x.numel() / 2.0)
    clock(
        run,
        group=f"sampler, {shape}, {STEPS} predictor-corrector steps, {score} score",
        contender=contender,
        error=moment_error(x / math.sqrt(variance)),
        limit=STANDARD_ERRORS + finite,
        what="mean, variance against the recursion [s.e.]",
        work=2.0 * STEPS * x.numel() / 1e6,
        unit="million element-updates",
        seconds=4.0,
    )
