"""A training's folder: going on from its last checkpoint, writing the next one, refusing another's.

All randomness of a training is a function of (seed, step). What was killed and is started again
with the same arguments therefore ends with the same bits as if it had never stopped, as long as
the clock has no say (``TrainReport.reproducible``).
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, final

import torch
from sdekit_kernels.checks import check_int_range, check_positive
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
from sdekit.train.learner import Learner
from sdekit.train.spec import network_to_dict, sde_to_dict
from sdekit.train.state import STATE, locked, read_state, write_facts, write_state


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
        if every_seconds is not None:
            every_seconds = check_positive("save_seconds", every_seconds, allow_zero=True)
        if every_steps is not None:
            every_steps = check_int_range("save_steps", every_steps, 1, 1 << 31)
        self.folder = None if folder is None else Path(folder)
        # As JSON gives them back: tuples are lists there.
        self.settings = {} if folder is None else json.loads(json.dumps(dict(settings())))
        self.every_seconds, self.every_steps, self.writes = every_seconds, every_steps, writes
        self.saved: int | None = None
        self._last = time.perf_counter()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block the folder exists, and no other process trains in it.

        Raises OSError for a folder that cannot be made, or in which another process trains.
        """
        if self.folder is None:
            yield
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is a file, not a folder", str(self.folder))
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder) if self.writes else nullcontext():
            yield

    def resume(self, learner: Learner, budget: Budget) -> int | None:
        """Put the last checkpoint into ``learner`` and ``budget``; its step, None without one.

        Raises CheckpointError for a damaged one, or for the checkpoint of another training (it
        names what differs), ArithmeticError for one that diverged with this learning rate or a
        smaller one.
        """
        budget.start()
        if self.folder is None or (found := read_state(self.folder)) is None:
            return None
        facts, tensors = found
        try:
            self._refuse_others(facts["settings"])
            self._refuse_diverged(facts["loss"], facts["step"], learner.lr)
            learner.restore(tensors, facts["scaler"])
            budget.start(facts["step"], facts["seconds"], facts["clock_led"])
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{self.folder / STATE} does not hold together: {error}"
            ) from None
        self.saved = budget.done
        return self.saved

    def due(self, budget: Budget) -> bool:
        """Whether it is time to save; of several processes one must decide it for all."""
        by_steps = self.every_steps is not None and budget.done % self.every_steps == 0
        passed = time.perf_counter() - self._last
        return by_steps or (self.every_seconds is not None and passed > self.every_seconds)

    def save(self, learner: Learner, budget: Budget, model: Checkpoint | None) -> None:
        """Write the state, unless that of this step stands there already, and the model.

        Raises ArithmeticError for losses or weights that are not finite, OSError that names the
        file; both leave the last checkpoint as it is.
        """
        learner.read()
        learner.check_finite()
        self._last = time.perf_counter()
        if self.folder is None or not self.writes:
            return
        facts = {
            "step": budget.done,
            "seconds": round(budget.elapsed, 3),
            "clock_led": budget.led,
            "lr": learner.lr,
            "loss": {"status": "finite", "last": learner.losses[-1] if learner.losses else None},
            "settings": self.settings,
            "scaler": learner.scaler.state_dict(),
            "versions": versions(),
        }
        try:
            if self.saved != budget.done:
                write_state(self.folder, facts, learner.state())
                self.saved = budget.done
            if model is not None and budget.done:
                done = {"steps": budget.done, "reproducible": not budget.led}
                with learner.average.swapped():
                    save_checkpoint(
                        self.folder / MODEL, replace(model, info={**model.info, **done})
                    )
        except OSError as error:
            text = f"{error.strerror} ({self._stays()}: make room and give the same command again)"
            raise OSError(error.errno, text, error.filename) from error

    @contextmanager
    def watching(self, learner: Learner) -> Iterator[None]:
        """Within the block an ArithmeticError is written into the JSON, and says what stays."""
        try:
            yield
        except ArithmeticError as error:
            if self.folder is None:
                raise
            found = read_state(self.folder) if self.writes else None
            if found is not None:
                status = {"status": "diverged", "what": str(error), "lr": learner.lr}
                write_facts(self.folder, {**found[0], "loss": status})
            raise ArithmeticError(f"{error} ({self._stays()} in {self.folder})") from error

    def _stays(self) -> str:
        if self.saved is None:
            return "no checkpoint was written yet"
        return f"the checkpoint of step {self.saved} stays"

    def _refuse_diverged(self, loss: Mapping[str, Any], step: int, lr: float) -> None:
        if loss["status"] != "finite" and lr >= loss["lr"]:
            raise ArithmeticError(
                f"this training diverged with lr={loss['lr']:g}: {loss['what']}; with a smaller lr "
                f"it goes on from step {step}"
            )

    def _refuse_others(self, theirs: Mapping[str, Any]) -> None:
        for name, own in self.settings.items():
            if theirs.get(name) != own:
                raise CheckpointError(
                    f"{self.folder} holds a training with another {name}: "
                    f"{_short(theirs.get(name))} there, {_short(own)} asked for; give another "
                    f"folder, or the same {name}"
                )


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


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    try:
        own = version("sdekit")
    except PackageNotFoundError:
        own = "unknown"
    return {"sdekit": own, "torch": torch.__version__}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
