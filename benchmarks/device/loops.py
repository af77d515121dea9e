"""Whole loops, where launches and the score count too: an ensemble, the sampler, tiny tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import sdekit as sk
from benchmarks.checks import (
    STANDARD_ERRORS,
    ensemble_error,
    moment_error,
    ou_moments,
    sampler_variance,
)
from benchmarks.device.context import Context
from benchmarks.device.record import Record
from benchmarks.problems import DATA_STD, SNR, make_loop
from benchmarks.rivals import eager_ou, eager_sampler
from benchmarks.updates import DT, UPDATES

ENSEMBLE, SAMPLER, LAUNCH = "OU ensemble", "sampler", "launch overhead"
ENSEMBLE_TEXT = (
    "Euler-Maruyama, 100 steps, float32, on the host's clock. error: mean and variance against the "
    "method's own affine recursion, in standard errors."
)
SAMPLER_TEXT = (
    "VP, reverse diffusion with the snr corrector, Gaussian data and the exact score, on the "
    "host's clock. error: mean and variance against the recursion, in standard errors."
)
LAUNCH_TEXT = (
    "Microseconds of the host's clock for one update of a tensor so small that nothing but the "
    "launches counts, in a row of 200."
)
OU = {"theta": 1.3, "mu": -0.5, "sigma": 0.8}


def ensemble(context: Context, record: Record) -> None:
    """Millions of paths through ``solve`` and through a loop of eager torch."""
    steps, x0 = (8 if context.dry_run else 100), 2.0
    recursion, _ = ou_moments(**OU, x0=x0, dt=1.0 / steps, steps=steps)
    for paths, dim in ((100_000, 1), (10_000_000, 1), (1_000_000, 16)):
        shape = (200 if context.dry_run else paths, dim)
        x = torch.full(shape, x0, device=context.device)
        sde = sk.OU(**OU)

        def ours(x: Tensor = x, sde: Any = sde) -> Tensor:
            return sk.solve(sde, x, t0=0.0, t1=1.0, steps=steps, seed=0).x

        def eager(x: Tensor = x) -> Tensor:
            return eager_ou(x, **OU, dt=1.0 / steps, steps=steps)

        _loop_row(
            context,
            record,
            ENSEMBLE,
            ours,
            eager,
            lambda y: ensemble_error(y, recursion),
            STANDARD_ERRORS,
            shape=str(shape),
            work=float(steps * x.numel()),
            unit="Gsteps_s",
        )


def sampler(context: Context, record: Record) -> None:
    """The predictor-corrector loop, with an update that is all, and with a network."""
    for shape, score in (
        ((1024, 3, 64, 64), "closed form"),
        ((64, 3, 64, 64), "closed form"),
        ((4096, 784), "MLP"),
    ):
        if context.dry_run:
            shape = (4, 64)
        loop = make_loop(shape, score, 20 if context.dry_run else 50, context.device)

        def ours(loop: Any = loop, shape: tuple[int, ...] = shape) -> Tensor:
            x: Tensor = sk.sample(
                loop.sde,
                loop.score,
                shape,
                steps=len(loop.predictor),
                predictor="reverse_diffusion",
                corrector="langevin",
                snr=SNR,
                seed=0,
                device=context.device,
            )
            return x

        def eager(loop: Any = loop, shape: tuple[int, ...] = shape) -> Tensor:
            x = torch.randn(shape, device=context.device)
            return eager_sampler(
                loop.score,
                x,
                times=loop.times,
                predictor=loop.predictor,
                alpha=loop.alpha,
                snr=SNR,
            )

        variance = sampler_variance(loop.predictor, loop.alpha, loop.marginal_variance, SNR, 1.0)
        numel = math.prod(shape)
        finite = 4.0 / math.prod(shape[1:]) * math.sqrt(numel / 2.0)
        _loop_row(
            context,
            record,
            SAMPLER,
            ours,
            eager,
            partial(_standard_error, variance),
            STANDARD_ERRORS + finite,
            shape=f"{shape}, {score} score, data std {DATA_STD}",
            work=2.0 * len(loop.predictor) * numel,
            unit="Gupdates_s",
        )


def _standard_error(variance: float, x: Tensor) -> float:
    return moment_error(x / math.sqrt(variance))


def _loop_row(
    context: Context,
    record: Record,
    section: str,
    ours: Callable[[], Tensor],
    eager: Callable[[], Tensor],
    error: Callable[[Tensor], float],
    limit: float,
    *,
    shape: str,
    work: float,
    unit: str,
) -> None:
    torch.manual_seed(0)
    own, rival = error(ours()), error(eager())
    ms, eager_ms = context.wall(ours), context.wall(eager)
    record.row(
        section,
        shape=shape,
        error=own,
        eager_error=rival,
        limit=limit,
        ok=own <= limit and rival <= limit,
        ms=ms.ms,
        spread=ms.spread,
        **{unit: work / ms.ms / 1e6},
        eager_ms=eager_ms.ms,
        speedup=eager_ms.ms / ms.ms,
    )


def launch(context: Context, record: Record) -> None:
    """What one step costs when the tensor is tiny."""
    repeats = 1 if context.dry_run else 200
    shape = (2, 8) if context.dry_run else (64, 64)
    noise: dict[str, Any] = {"seed": 1, "stream": 0, "backend": context.backend}
    x, s = context.random(shape), context.random(shape)
    for op, make in UPDATES.items():
        for kind in ("number", "tensor"):
            update = make(x, kind)

            def ours(update: Any = update) -> None:
                for k in range(repeats):
                    update.fused(x, s, step=k, **noise)

            def eager(update: Any = update) -> None:
                for _ in range(repeats):
                    update.eager(x, s)

            ms, eager_ms = context.wall(ours), context.wall(eager)
            record.row(
                LAUNCH,
                op=op,
                coefficients=f"a {kind}",
                us=ms.ms / repeats * 1e3,
                spread=ms.spread,
                eager_us=eager_ms.ms / repeats * 1e3,
                speedup=eager_ms.ms / ms.ms,
            )
    sde = sk.OU(**OU)
    per = context.wall(lambda: sk.solve(sde, x, t0=0.0, t1=1.0, steps=repeats, seed=0))
    rival = context.wall(lambda: eager_ou(x, **OU, dt=DT, steps=repeats))
    record.row(
        LAUNCH,
        op="solve, a step of OU",
        coefficients="",
        us=per.ms / repeats * 1e3,
        spread=per.spread,
        eager_us=rival.ms / repeats * 1e3,
        speedup=rival.ms / per.ms,
    )
