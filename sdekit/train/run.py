"""A training's folder: going on from its last checkpoint, writing the next one, refusing another's.

All randomness of a training is a function of (seed, step). What was killed and is started again
with the same arguments therefore ends with the same bits as if it had never stopped, as long as
the clock has no say (``TrainReport.reproducible``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, final

from torch import nn

from sdekit.likelihood import DataTransform
from sdekit.score import Preconditioned
from sdekit.sde import AffineSDE
from sdekit.train.budget import Budget
from sdekit.train.checkpoint import (
    MODEL,
    Checkpoint,
    CheckpointError,
    check_same_sde,
    save_checkpoint,
)
from sdekit.train.folder import Folder, versions
from sdekit.train.learner import Learner
from sdekit.train.spec import network_to_dict, sde_to_dict
from sdekit.train.state import STATE


@final
class Run:
    """The folder of one training; with folder None, nothing is kept.

    settings: what makes the training this one, in plain values. every_seconds, every_steps: how
    often ``due`` says so; None for never. writes: whether this process is the one that does.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        settings: Callable[[], Mapping[str, Any]],
        *,
        every_seconds: float | None = 60.0,
        every_steps: int | None = None,
        writes: bool = True,
    ) -> None:
        self.folder = Folder(
            folder, settings, every_seconds=every_seconds, every_steps=every_steps, writes=writes
        )
        self.saved: int | None = None

    def held(self) -> AbstractContextManager[None]:
        """``Folder.held``: within the block no other process trains in this folder."""
        return self.folder.held()

    def resume(self, learner: Learner, budget: Budget) -> int | None:
        """Put the last checkpoint into ``learner`` and ``budget``; its step, None without one.

        Raises CheckpointError for a damaged one, or for the checkpoint of another training (it
        names what differs), ArithmeticError for one that diverged with this learning rate or a
        smaller one.
        """
        budget.start()
        if (found := self.folder.read()) is None:
            return None
        assert self.folder.path is not None
        facts, tensors = found
        try:
            self.folder.refuse_others(facts["settings"], self.folder.settings)
            self.folder.refuse_diverged(facts["loss"], f"step {facts['step']}", learner.lr)
            learner.restore(tensors, facts["scaler"])
            budget.start(facts["step"], facts["seconds"], facts["clock_led"])
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{self.folder.path / STATE} does not hold together: {error}"
            ) from None
        self.folder.tidy(facts)
        self._stands(budget.done)
        return self.saved

    def due(self, budget: Budget) -> bool:
        """Whether it is time to save; of several processes one must decide it for all."""
        return self.folder.due(budget.done)

    def save(self, learner: Learner, budget: Budget, model: Checkpoint | None) -> None:
        """Write the state, unless that of this step stands there already, and the model.

        Raises ArithmeticError for losses or weights that are not finite, OSError that names the
        file; both leave the last checkpoint as it is.
        """
        learner.read()
        learner.check_finite()
        self.folder.begin_wait()
        if self.folder.path is None or not self.folder.writes:
            return
        if self.saved != budget.done:
            self.folder.write(self._facts(learner, budget), learner.state())
            self._stands(budget.done)
        if model is not None and budget.done:
            done = {"steps": budget.done, "reproducible": not budget.led}
            with learner.average.swapped(), self.folder.full_disk():
                save_checkpoint(
                    self.folder.path / MODEL, replace(model, info={**model.info, **done})
                )

    @contextmanager
    def watching(self, learner: Learner) -> Iterator[None]:
        """Within the block an ArithmeticError is written into the JSON, and says what stays."""
        try:
            yield
        except ArithmeticError as error:
            if self.folder.path is None:
                raise
            self.folder.mark_diverged(error, learner.lr)
            text = f"{error} ({self.folder.stays()} in {self.folder.path})"
            raise ArithmeticError(text) from error

    def _facts(self, learner: Learner, budget: Budget) -> Mapping[str, Any]:
        return {
            "step": budget.done,
            "seconds": round(budget.elapsed, 3),
            "clock_led": budget.led,
            "lr": learner.lr,
            "loss": {"status": "finite", "last": learner.losses[-1] if learner.losses else None},
            "settings": self.folder.settings,
            "scaler": learner.scaler.state_dict(),
            "versions": versions(),
        }

    def _stands(self, step: int) -> None:
        self.saved, self.folder.saved = step, f"step {step}"


def as_checkpoint(
    net: nn.Module, sde: AffineSDE, transform: DataTransform | None, info: dict[str, Any]
) -> Checkpoint | None:
    """The model as a checkpoint; None for a network or an equation that has no name.

    Raises ValueError for a network that was made for another equation.
    """
    try:
        sde_to_dict(sde)
        network_to_dict(net)
    except TypeError:
        return None
    assert isinstance(net, Preconditioned)
    check_same_sde(net, sde)
    return Checkpoint(net, sde, transform, info)
