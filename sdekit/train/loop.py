"""The training loop: Adam on denoising score matching, weights averaged, by steps or by the clock.

Small on purpose: one device, data that fit in memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor, nn

from sdekit.likelihood import DataTransform
from sdekit.noise import keys
from sdekit.sde import AffineSDE
from sdekit.train.data import permutation
from sdekit.train.ema import EMA
from sdekit.train.loss import denoising_score_matching
from sdekit.train.times import TimeSampler
from sdekit.train.weighting import Weighting

SHUFFLE_STREAM: Final = keys.TRAIN


class Augment(Protocol):
    """Changes a batch of integers; ``seed`` and ``step`` name the draw, ``way`` is in [0, 1)."""

    def __call__(self, images: Tensor, *, seed: int, step: int, way: float) -> Tensor:
        """The changed batch, of the same shape."""


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training did.

    steps: how many. seconds: how long. loss: mean loss of the last tenth of the steps.
    stopped_by: "steps" or "seconds". reproducible: whether the clock had no say, so that the same
    seed gives the same weights again on the same machine.
    """

    steps: int
    seconds: float
    loss: float
    stopped_by: str
    reproducible: bool


def train(
    net: nn.Module,
    sde: AffineSDE,
    data: Tensor,
    transform: DataTransform,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    batch: int = 256,
    lr: float = 2e-3,
    warmup: float = 0.03,
    ema: float = 0.999,
    weighting: str | Weighting = "simple",
    times: TimeSampler | None = None,
    augment: Augment | None = None,
    seed: int = 0,
    on_step: Callable[[int, float, float], None] | None = None,
) -> TrainReport:
    """Fit the score network to integer data; leaves the averaged weights in ``net``.

    Each step: a batch of a fresh permutation of the data, fresh dequantization noise, the loss of
    ``denoising_score_matching``, Adam, the weights' moving average. The learning rate rises
    linearly over the first ``warmup`` of the way to ``lr``, then falls to 0 on a cosine; the way is
    measured in steps, in seconds, or, where both are given, by whichever is further.

    Args:
        net: a score model (t, x) -> score, whose parameters are trained.
        data: integers of shape (N, D...), as ``transform`` takes them.
        steps: how many. With ``seconds`` None the result is a function of the seed alone.
        seconds: how long at the most; a step that has begun is finished.
        batch: samples a step, N at the most.
        ema: decay of the weights' average; 0 for none.
        weighting, times: see ``denoising_score_matching``.
        augment: changes a batch of integers before it is dequantized, (k, seed=, step=,
            way=) -> k, with way the fraction of the training that is done.
        on_step: called with (steps done, fraction of the way, loss) after each step.

    Raises ValueError for a budget that is missing or not positive and numbers out of their range,
    ArithmeticError if the loss or the averaged weights leave the finite numbers (the weights are
    then not written into ``net``).
    """
    if steps is None and seconds is None:
        raise ValueError("how long? write steps=..., seconds=..., or both")
    limit = None if steps is None else check_int_range("steps", steps, 1, 1 << 31)
    budget = None if seconds is None else check_positive("seconds", seconds)
    lr = check_positive("lr", lr)
    warmup = check_positive("warmup", warmup, allow_zero=True)
    n = data.shape[0] if data.ndim else 0
    if n == 0:
        raise ValueError("data has no samples")
    batch = min(check_int_range("batch", batch, 1, 1 << 31), n)
    times = TimeSampler(sde) if times is None else times
    average = EMA(net, ema)
    parameters = list(net.parameters())
    dtype = parameters[0].dtype
    # 0.99 instead of 0.999: the second moment must follow within a run of a few thousand steps.
    adam = torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.99), fused=True)
    losses: list[float] = []
    net.train()
    start = time.perf_counter()
    way, clock_led = 0.0, False
    done = 0
    while way < 1.0:
        place = done % (n // batch)
        if place == 0:
            order = permutation(n, seed=seed, stream=SHUFFLE_STREAM, step=done // (n // batch))
        chosen = data[order[place * batch : (place + 1) * batch]]
        if augment is not None:
            chosen = augment(chosen, seed=seed, step=done, way=way)
        # Step 0 of the dequantization noise is left to the data that are scored.
        x = transform.forward(chosen, seed=seed, step=done + 1, dtype=dtype)
        for group in adam.param_groups:
            group["lr"] = lr * learning_rate_factor(way, warmup)
        loss = denoising_score_matching(
            sde, net, x, seed=seed, step=done, weighting=weighting, times=times
        ).mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ArithmeticError(
                f"the loss is {value} at step {done}: write a smaller lr than {lr:g}"
            )
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        average.update()
        losses.append(value)
        done += 1
        elapsed = time.perf_counter() - start
        by_steps = 0.0 if limit is None else done / limit
        by_clock = 0.0 if budget is None else elapsed / budget
        clock_led = clock_led or by_clock > by_steps
        way = max(by_steps, by_clock)
        if on_step is not None:
            on_step(done, min(way, 1.0), value)
    # The last step changes the weights after the last loss: no loss tells what became of them.
    if not all(bool(w.isfinite().all()) for w in average.average):
        raise ArithmeticError(
            f"the weights left the finite numbers by step {done}: write a smaller lr than {lr:g}"
        )
    average.copy_to_module()
    net.eval()
    tail = losses[-max(1, done // 10) :]
    return TrainReport(
        steps=done,
        seconds=time.perf_counter() - start,
        loss=sum(tail) / len(tail),
        stopped_by="steps" if limit is not None and done >= limit else "seconds",
        reproducible=not clock_led,
    )


def learning_rate_factor(way: float, warmup: float) -> float:
    """Linear from 0 to 1 over [0, warmup], then half a cosine down to 0 at way = 1."""
    if way < warmup:
        return way / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (way - warmup) / max(1.0 - warmup, 1e-12)))
