"""A folder that keeps one piece of work: who may write in it, when it is due, what it refuses."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, final

import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor

from sdekit.train.checkpoint import CheckpointError
from sdekit.train.state import FORMAT, locked, read_state, remove_others, write_facts, write_state


@final
class Folder:
    """The folder of one training, or of another ``work``; with path None, nothing is kept.

    settings: what makes the work this one, in plain values. every_seconds, every_steps: how often
    ``due`` says so; None for never. writes: whether this process is the one that does. form: the
    kind of the state in the folder. ``saved``: what the last checkpoint is called.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        settings: Callable[[], Mapping[str, Any]],
        *,
        every_seconds: float | None = 60.0,
        every_steps: int | None = None,
        writes: bool = True,
        work: str = "training",
        form: str = FORMAT,
    ) -> None:
        if every_seconds is not None:
            every_seconds = check_positive("save_seconds", every_seconds, allow_zero=True)
        if every_steps is not None:
            every_steps = check_int_range("save_steps", every_steps, 1, 1 << 31)
        self.path = None if path is None else Path(path)
        # As JSON gives them back: tuples are lists there.
        self.settings = {} if path is None else json.loads(json.dumps(dict(settings())))
        self.every_seconds, self.every_steps, self.writes = every_seconds, every_steps, writes
        self.saved: str | None = None
        self._work, self._form = work, form
        self._last = time.perf_counter()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block the folder exists, and no other process works in it.

        Raises OSError for a folder that cannot be made, or in which another process works.
        """
        if self.path is None:
            yield
            return
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is a file, not a folder", str(self.path))
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path) if self.writes else nullcontext():
            yield

    def read(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """``read_state`` of this folder; None without a folder."""
        return None if self.path is None else read_state(self.path, self._form)

    def tidy(self, facts: Mapping[str, Any]) -> None:
        """Remove what a process that was killed left beside the pair of these facts."""
        if self.path is not None and self.writes:
            remove_others(self.path, facts["tensors"]["file"])

    def write(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """``write_state``; raises OSError that says what stays."""
        assert self.path is not None
        with self.full_disk():
            write_state(self.path, facts, tensors, self._form)

    def due(self, done: int) -> bool:
        """Whether it is time to save; of several processes one must decide it for all."""
        by_steps = self.every_steps is not None and done % self.every_steps == 0
        passed = time.perf_counter() - self._last
        return by_steps or (self.every_seconds is not None and passed > self.every_seconds)

    def begin_wait(self) -> None:
        """Count the seconds until the next save from here."""
        self._last = time.perf_counter()

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Within the block an OSError says which checkpoint stays."""
        try:
            yield
        except OSError as error:
            text = f"{error.strerror} ({self.stays()}: make room and give the same command again)"
            raise OSError(error.errno, text, error.filename) from error

    def mark_diverged(self, error: ArithmeticError, lr: float | None) -> None:
        """Write into the JSON, if there is one, that the work diverged with this learning rate."""
        found = self.read() if self.writes else None
        if self.path is not None and found is not None:
            status = {"status": "diverged", "what": str(error), "lr": lr}
            write_facts(self.path, {**found[0], "loss": status}, self._form)

    def refuse_diverged(self, loss: Mapping[str, Any], where: str, lr: float | None) -> None:
        """Raises ArithmeticError for work that diverged with this learning rate or a smaller one.

        loss: what the JSON says of it. where: from which it would go on.
        """
        if loss["status"] == "finite":
            return
        if lr is None or loss["lr"] is None:
            raise ArithmeticError(
                f"this {self._work} diverged: {loss['what']}; remove {self.path} to begin again"
            )
        if lr >= loss["lr"]:
            raise ArithmeticError(
                f"this {self._work} diverged with lr={loss['lr']:g}: {loss['what']}; with a "
                f"smaller lr it goes on from {where}"
            )

    def refuse_others(self, theirs: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        """Raises CheckpointError that names the first of ``own`` that is another there."""
        for name, value in own.items():
            if theirs.get(name) != value:
                raise CheckpointError(
                    f"{self.path} holds a {self._work} with another {name}: "
                    f"{_short(theirs.get(name))} there, {_short(value)} asked for; give another "
                    f"folder, or the same {name}"
                )

    def stays(self) -> str:
        """Which checkpoint stays."""
        if self.saved is None:
            return "no checkpoint was written yet"
        return f"the checkpoint of {self.saved} stays"


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
