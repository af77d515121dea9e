r"""How a half-step's drift is fitted: in closed form by least squares, or a network by Adam."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final, Protocol, final, runtime_checkable

import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from torch import Tensor, nn

from sdekit.bridge.drifts import AffineDrift, NetworkDrift
from sdekit.bridge.grid import Direction, TimeGrid
from sdekit.bridge.problems import Examples, Problem
from sdekit.train.budget import Budget, learning_rate_factor
from sdekit.train.learner import READ_EVERY, Learner, first_parameter
from sdekit.train.parallel import data_parallel
from sdekit.train.precision import PRECISIONS

OnStep = Callable[[int, float, float], None]
"""(steps done, fraction of the way, loss)."""


class Keep(Protocol):
    """What keeps the state of a regression in its middle, and brings it back."""

    def begin(self, learner: Learner, budget: Budget) -> None:
        """Put what was kept into both, before the first step."""

    def after(self, learner: Learner, budget: Budget) -> None:
        """After each step."""


@runtime_checkable
class Watching(Protocol):
    """A network that wants to know the range of what it is fitted to."""

    def see(self, x: Tensor) -> None:
        """A batch (B, D...) that it will be fitted to."""

    def forget_range(self) -> None:
        """A regression begins."""


@final
@dataclass(frozen=True, slots=True)
class LeastSquares:
    r"""v(s_j, x) = A_j x + c_j, each time for itself, over all paths of the cache.

        (A, c) = argmin \sum_i |A x_i + c - target_i|^2 + ridge |A|^2 per path

    in float64, by the normal equations of centred states: a perfect regression for Gaussian ends,
    up to the sampling error of the paths; by antithetic pairs each path is two rows. ``loss``: the
    mean of what is left, over the times.
    Raises ValueError for a ridge below zero.
    """

    ridge: float = 0.0

    def __post_init__(self) -> None:
        check_positive("ridge", self.ridge, allow_zero=True)

    def fit(
        self, problem: Problem, grid: TimeGrid, direction: Direction
    ) -> tuple[AffineDrift, list[float]]:
        """The drift of this direction, and the losses of its times in order of motion."""
        fitted = [self._one(problem.at(j)) for j in range(grid.N)]
        matrices = torch.stack([A for A, _, _ in fitted])
        shifts = torch.stack([c for _, c, _ in fitted])
        return AffineDrift(matrices, shifts, grid, direction), [left for _, _, left in fitted]

    def _one(self, examples: Examples) -> tuple[Tensor, Tensor, float]:
        x, y = examples.x.flatten(1).double(), examples.target.flatten(1).double()
        mean_x, mean_y = x.mean(0), y.mean(0)
        x, y = x - mean_x, y - mean_y
        gram = x.mT @ x / len(x)
        gram.diagonal().add_(self.ridge)
        # The pseudo-inverse: a component that does not vary has no slope.
        A = (torch.linalg.pinv(gram, hermitian=True) @ (x.mT @ y / len(x))).mT
        return A, mean_y - A @ mean_x, float((y - x @ A.mT).square().mean())


@final
@dataclass(frozen=True, slots=True)
class Adam:
    """A network by Adam on mean squares: ``sdekit.train``'s learner, for ``steps`` a half-step.

    The learning rate rises on a line over the first ``warmup`` of the steps to ``lr`` and falls to
    0 on a cosine, anew in each half-step. ema, clip, precision, compiled: as for
    ``sdekit.train.train``; a half-step ends with the averaged weights in its network.
    batch: examples; by antithetic pairs they come from half as many paths, or pairs of ends.
    A network that is ``Watching``, as ``DriftMLP``, is shown what it is fitted to; one that is a
    part of another module is not, and has no limits.
    first_steps: of the half-steps in which a network begins from nothing, in the place of
    ``steps``: 1 and 2, or 1 where one network has both drifts, or all with fresh=True.
    Raises TypeError or ValueError for numbers out of their range.
    """

    steps: int = 2_000
    batch: int = 512
    lr: float = 1e-3
    warmup: float = 0.03
    ema: float = 0.999
    clip: float | None = 1.0
    precision: str = "full"
    compiled: bool = False
    first_steps: int | None = None

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, PRECISIONS)
        check_int_range("steps", self.steps, 1, 1 << 31)
        if self.first_steps is not None:
            check_int_range("first_steps", self.first_steps, 1, 1 << 31)
        check_int_range("batch", self.batch, 1, 1 << 31)
        check_positive("lr", self.lr)
        for name, least in (("warmup", "the share of the steps that lr rises"), ("ema", "a decay")):
            if check_positive(name, getattr(self, name), allow_zero=True) >= 1.0:
                raise ValueError(f"{name} is {least}, below 1, got {getattr(self, name):g}")
        if self.clip is not None:
            check_positive("clip", self.clip)

    def of(self, half_step: int, one_net: bool, fresh: bool = False) -> Adam:
        """What a half-step does: its steps are ``steps``. fresh: each one has a new network."""
        if self.first_steps is None:
            return self
        first = fresh or half_step <= (1 if one_net else 2)
        return replace(self, steps=self.first_steps if first else self.steps, first_steps=None)

    def fit(
        self,
        problem: Problem,
        drift: NetworkDrift,
        on_step: OnStep | None = None,
        *,
        keep: Keep | None = None,
    ) -> list[float]:
        """Fit the network of ``drift``, both rows of it where it has two; the loss of each step.

        on_step: called for each step in turn; on CUDA, where losses are read every 20 steps, up to
        19 steps later. keep: what keeps the state of a regression in its middle. Under torchrun
        each process evaluates the network on its share of a batch.
        Raises ArithmeticError, with step and learning rate, for a loss that is not finite or has
        exploded; the network then has the weights of that step.
        """
        batch, budget, net = min(self.batch, problem.most), Budget(self.steps, None), drift.net
        device = first_parameter(net).device
        with ExitStack() as stack:
            ranks = stack.enter_context(data_parallel(batch, device))
            learner = Learner(
                net,
                ranks,
                lr=self.lr,
                ema=self.ema,
                clip=self.clip,
                precision=self.precision,
                every=READ_EVERY.get(device.type, 1),
            )
            score = learner.score(self.compiled)
            budget.start()
            watching = stack.enter_context(_watching(net))
            if keep is not None:
                keep.begin(learner, budget)
            told = len(learner.losses)
            net.train()
            while budget.way < 1.0:
                examples = problem.batch(budget.done, batch, ranks.rows)
                if watching is not None:
                    watching.see(ranks.ends_of(examples.x[ranks.rows]))
                rate = self.lr * learning_rate_factor(budget.way, self.warmup)
                learner.step(_squares(score, examples, drift), rate)
                budget.done += 1
                budget.move(0.0)
                if keep is not None:
                    keep.after(learner, budget)
                if budget.way >= 1.0:
                    learner.read()
                while on_step is not None and told < len(learner.losses):
                    told += 1
                    on_step(told, told / self.steps, learner.losses[told - 1])
            learner.check_finite()
        learner.average.copy_to_module()
        net.eval()
        return learner.losses


@contextmanager
def _watching(net: nn.Module) -> Iterator[Watching | None]:
    """The network if it wants to be shown what it is fitted to; its range begins anew.

    A fit that ends early leaves no range: that of a few batches is not where the network was
    fitted.
    """
    parts = [part for part in net.modules() if isinstance(part, Watching)]
    for part in parts:
        part.forget_range()
    try:
        yield net if isinstance(net, Watching) else None
    except BaseException:
        for part in parts:
            part.forget_range()
        raise


def _squares(
    net: Callable[[Tensor, Tensor], Tensor], examples: Examples, drift: NetworkDrift
) -> Tensor:
    """Each row's mean square of output less target, both in the network's unit: (B,)."""
    t, x, target, seen = examples
    unit = drift.units(t).to(x.dtype)
    left = net(t, x) - unit.view(*unit.shape, *[1] * (target.ndim - unit.ndim)) * target
    if seen is not None:
        left = left * seen
    return left.flatten(1).square().mean(1)


Regression = LeastSquares | Adam

REGRESSIONS: Final = (LeastSquares, Adam)
