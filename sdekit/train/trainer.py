"""Training of score models: Adam on a loss, weights averaged, by steps or by the clock.

    for each step:  x0 <- batch,  L <- mean of loss(sde, score, x0),  w <- Adam(w, grad L),
                    w-bar <- d w-bar + (1 - d) w

All randomness is a function of (seed, step), so that a training that was killed goes on from its
last checkpoint and ends with the same bits (``sdekit.train.run``).
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sdekit_kernels.checks import check_positive
from torch import Tensor, nn

from sdekit.likelihood import DataTransform
from sdekit.sde import AffineSDE
from sdekit.train.batches import Augment, Batches
from sdekit.train.budget import Budget, learning_rate_factor
from sdekit.train.describe import describe, describe_network, describe_sde
from sdekit.train.interrupt import interruptible
from sdekit.train.learner import READ_EVERY, Learner, first_parameter
from sdekit.train.losses import (
    Loss,
    get_loss,
    implicit_score_matching,
    sliced_score_matching,
)
from sdekit.train.parallel import data_parallel
from sdekit.train.run import Run, as_checkpoint
from sdekit.train.watch import Moment, draw_samples, watchers


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training did.

    steps: how many, and seconds: how long, those of earlier runs included. loss: mean loss of the
    last tenth of the steps. stopped_by: "steps" or "seconds". reproducible: whether the clock had
    no say, so that the same seed gives the same weights again on the same machine. resumed_from:
    the step of the checkpoint that this run went on from, None if it began anew.
    """

    steps: int
    seconds: float
    loss: float
    stopped_by: str
    reproducible: bool
    resumed_from: int | None = None


def train(
    net: nn.Module,
    sde: AffineSDE,
    data: Tensor,
    transform: DataTransform | None = None,
    *,
    loss: str | Loss = "dsm",
    steps: int | None = None,
    seconds: float | None = None,
    batch: int = 256,
    lr: float = 2e-3,
    warmup: float = 0.03,
    ema: float = 0.999,
    clip: float | None = None,
    precision: str = "full",
    compiled: bool = False,
    augment: Augment | None = None,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    save_seconds: float | None = 60.0,
    save_steps: int | None = None,
    info: Mapping[str, Any] | None = None,
    progress: bool = False,
    tensorboard: str | os.PathLike[str] | None = None,
    grid_every: int | None = None,
    on_step: Callable[[int, float, float], None] | None = None,
) -> TrainReport:
    """Fit the score network to data; leaves the averaged weights in ``net``.

    The learning rate rises linearly over the first ``warmup`` of the way to ``lr``, then falls to 0
    on a cosine; the way is measured in steps, in seconds, or, where both are given, by whichever is
    further. Under torchrun each process takes its share of each batch (``sdekit.train.parallel``).

    Args:
        net: a score model (t, x) -> score, whose parameters are trained.
        data: (N, D...), integers as ``transform`` takes them, or x themselves without one.
        loss: (sde, score, x0, *, seed, step) -> (B,), or a name in ``sdekit.train.LOSSES``;
            functools.partial gives it options.
        steps: how many. With ``seconds`` None the result is a function of the seed alone.
        seconds: how long at the most; a step that has begun is finished.
        batch: samples a step, in all processes together; N at the most.
        ema: largest decay of the weights' average (``EMA``); 0 for none.
        clip: largest norm of all gradients together; longer ones are scaled down to it.
        precision: "full", "bfloat16", or "float16" (CUDA; its gradients are scaled): of matrix
            products and convolutions in the network. Weights, loss and averages stay as they are.
        compiled: whether to compile the network with torch.compile; not for "ism" and "ssm", whose
            derivatives of derivatives it does not compile.
        augment: changes a batch before it is dequantized, (k, seed=, step=, way=) -> k, with way
            the fraction of the training that is done.
        folder: where the state is kept, and model.safetensors, the model so far. The same call
            again goes on from the last checkpoint; Ctrl-C writes one. ``lr``, ``clip`` and the
            budget may then differ. Several machines must share it.
        save_seconds, save_steps: how often; one is written in any case at the start and the end.
        info: plain values to be kept in the model's checkpoint.
        progress: whether to show a bar with loss and images a second.
        tensorboard: a folder for its scalars; with ``grid_every``, a grid of 16 samples each so
            many steps, for images.
        on_step: called with (steps done, fraction of the way, loss) for each step in turn: at once
            on the CPU; on CUDA, where losses are read every 20 steps, up to 19 steps later.

    Raises ValueError for a budget that is missing or not positive, numbers out of their range, data
    that are not finite, and a network without parameters or made for another equation;
    ArithmeticError, with step and learning rate, if the loss or the weights leave the finite
    numbers or the loss explodes (the average is then not written into ``net``, and the folder keeps
    its last checkpoint); CheckpointError for a folder that holds another training or a damaged one;
    OSError for a full disk, or a folder in which another process trains; KeyboardInterrupt for
    Ctrl-C, which says how to go on.
    """
    loss, budget = get_loss(loss), Budget(steps, seconds)
    warmup = check_positive("warmup", warmup, allow_zero=True)
    if warmup >= 1.0:
        raise ValueError(f"warmup is the share of the way that lr rises, below 1, got {warmup:g}")
    if compiled:
        _check_compiled(loss)
    first = first_parameter(net)
    model = as_checkpoint(net, sde, transform, dict(info or {}))
    batches = Batches(
        data,
        transform,
        batch=batch,
        seed=seed,
        dtype=first.dtype,
        device=first.device,
        augment=augment,
    )
    with ExitStack() as stack:
        ranks = stack.enter_context(data_parallel(batches.batch, first.device))
        interrupt = stack.enter_context(interruptible(folder is not None))
        every = READ_EVERY.get(first.device.type, 1)
        learner = Learner(net, ranks, lr=lr, ema=ema, clip=clip, precision=precision, every=every)
        score = learner.score(compiled)
        run = Run(
            folder,
            lambda: {
                "network": describe_network(net),
                "sde": describe_sde(sde),
                "transform": describe(transform),
                "data": batches.fingerprint(),
                "loss": describe(loss),
                "batch": batches.batch,
                "warmup": warmup,
                "ema": learner.average.decay,
                "precision": precision,
                "augment": describe(augment),
                "seed": seed,
            },
            every_seconds=save_seconds,
            every_steps=save_steps,
            writes=ranks.first,
        )
        stack.enter_context(run.held())
        resumed = run.resume(learner, budget)
        ranks.wait()
        show = stack.enter_context(
            watchers(
                progress and ranks.first,
                tensorboard if ranks.first else None,
                grid_every if ranks.first else None,
                budget.done,
                tuple(data.shape[1:]),
                lambda: _draw(learner, sde, batches),
            )
        )
        stack.enter_context(run.watching(learner))
        run.save(learner, budget, model)
        net.train()
        waiting: deque[Moment] = deque()
        while budget.way < 1.0:
            x0 = batches(budget.done, budget.way)
            rate = learner.lr * learning_rate_factor(budget.way, warmup)
            each = loss(sde, score, x0, seed=seed, step=budget.done)
            norm = learner.step(each, rate)
            budget.done += 1
            elapsed, stop, due = ranks.sum(
                ranks.first * budget.elapsed, interrupt.asked, ranks.first and run.due(budget)
            )
            budget.move(elapsed)
            waiting.append(Moment(budget.done, budget.way, math.nan, rate, len(x0), norm))
            if budget.way >= 1.0 or stop or (grid_every and budget.done % grid_every == 0):
                learner.read()
            # Those whose losses are read by now, in turn.
            while waiting and waiting[0].done <= len(learner.losses):
                moment = waiting.popleft()
                moment = replace(moment, loss=learner.losses[moment.done - 1])
                show(moment)
                if on_step is not None:
                    on_step(moment.done, moment.way, moment.loss)
            if stop:
                run.save(learner, budget, model)
                raise KeyboardInterrupt(
                    f"stopped by Ctrl-C at step {budget.done}, saved in {folder}: give the same "
                    "command again to go on"
                )
            if due:
                run.save(learner, budget, model)
        run.save(learner, budget, model)
    learner.average.copy_to_module()
    net.eval()
    tail = learner.losses[-max(1, budget.done // 10) :]
    return TrainReport(
        steps=budget.done,
        seconds=budget.elapsed,
        loss=sum(tail) / len(tail),
        stopped_by=budget.stopped_by,
        reproducible=not budget.led,
        resumed_from=resumed,
    )


def _check_compiled(loss: Loss) -> None:
    """Raises ValueError for a loss with derivatives of the network's derivatives."""
    while isinstance(loss, partial):
        loss = loss.func
    if loss in (implicit_score_matching, sliced_score_matching):
        raise ValueError(
            f"{loss.__name__} differentiates the network twice, which torch.compile does not "
            "compile: it would run as it is; write compiled=False, or loss='dsm'"
        )


def _draw(learner: Learner, sde: AffineSDE, batches: Batches) -> Tensor:
    """Sixteen samples of the averaged network in [0, 1], of 100 steps; the network goes on."""
    net, shape = learner.net, (16, *batches.data.shape[1:])
    net.eval()
    with learner.average.swapped():
        x = draw_samples(sde, net, shape, 100)
    net.train()
    return batches.to_unit(x)
