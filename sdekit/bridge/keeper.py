"""What a bridge's fit keeps on disk, so that it goes on from there bit for bit.

    state.json    the settings; the states of the half-steps done; the half-step in progress
    state-*.safetensors
        net/.., drift/..    networks and drifts as they were when the half-step in progress began
        losses/N            of half-step N
        inside/..           the learner of the half-step in progress, in the middle of it

The cache is not kept: its paths are functions of counters and of the drift that was fixed when the
half-step began, and are simulated again. The pair is written as ``sdekit.train.state`` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, final

import torch

from sdekit.bridge.grid import Direction
from sdekit.bridge.identity import describe_regression
from sdekit.bridge.nets import Networks
from sdekit.bridge.regression import Regression
from sdekit.bridge.snapshot import Facts, Tensors, load_networks, put, take
from sdekit.bridge.state import BridgeState, from_plain, to_plain
from sdekit.bridge.transport import Transport
from sdekit.train import CheckpointError
from sdekit.train.budget import Budget
from sdekit.train.folder import Folder, versions
from sdekit.train.interrupt import Interrupt, interruptible
from sdekit.train.learner import Learner
from sdekit.train.parallel import Ranks
from sdekit.train.state import STATE

FORMAT: Final = "sdekit.bridge"


@final
class Keeper:
    """The folder of one fit, and what of the fit goes into it; without a path it keeps nothing.

    states: of the half-steps done, the fit's own list. sizes: how many paths the cache of a
    half-step has, where one was made: with ``Cache(memory=...)`` it depends on what was free.
    """

    def __init__(
        self,
        folder: Folder,
        ranks: Ranks,
        transport: Transport,
        networks: Networks,
        states: list[BridgeState],
        sizes: dict[int, int],
    ) -> None:
        self.folder, self.ranks, self.states, self.sizes = folder, ranks, states, sizes
        self._transport, self._networks = transport, networks
        self._interrupt = Interrupt()
        self._base: tuple[Facts, Tensors] = {}, {}
        # What was read of the half-step in progress: facts, the learner's tensors.
        self._read: tuple[Facts, Tensors] | None = None
        self._regression: Facts = {}
        self._spent: Callable[[], dict[str, float]] = dict

    @property
    def keeps(self) -> bool:
        """Whether there is a folder."""
        return self.folder.path is not None

    # -- going on ----------------------------------------------------------------------------------

    def resume(self, regression: Regression) -> None:
        """Put what the folder keeps into networks, transport and states; or write the beginning.

        Raises CheckpointError for a damaged folder, or that of another bridge (it names what
        differs), or of fewer half-steps than are done; ArithmeticError for a fit that diverged with
        this learning rate or a smaller one; OSError if nothing can be written.
        """
        self._regression = json.loads(json.dumps(describe_regression(regression)))
        found = self.folder.read()
        if found is not None:
            self._restore(*found, regression)
        # Before the first process writes, the others have read.
        self.ranks.wait()
        for net in self._networks.known.values():
            self.ranks.from_first(net.state_dict().values())
        if self.keeps and found is None:
            self._base = take(self._transport, self._networks.known)
            self._write(0, None, {})

    def _restore(self, facts: Facts, tensors: Tensors, regression: Regression) -> None:
        try:
            theirs = {**facts["settings"], "regression": facts["regression"]}
            own = {**self.folder.settings, "regression": self._regression}
            self.folder.refuse_others(*_differing(theirs, own))
            inside, done = facts["inside"], facts["half_step"]
            where = _place(done, inside)
            self.folder.refuse_diverged(facts["loss"], where, getattr(regression, "lr", None))
            if len(self.states) > done:
                raise CheckpointError(
                    f"this bridge has done {len(self.states)} half-steps, {self.folder.path} holds "
                    f"{done}: give another folder, or make the bridge anew to go on from there"
                )
            networks = self._networks.like_those(facts["networks"], done)
            load_networks(facts, tensors, networks)
            put(self._transport, facts, tensors, networks)
            losses = [tuple(tensors[f"losses/{i + 1}"].tolist()) for i in range(done)]
            self.states[:] = [
                from_plain(s, each) for s, each in zip(facts["states"], losses, strict=True)
            ]
            self._read = None
            if inside is not None:
                self.sizes.update({done + 1: inside["paths"]} if inside["paths"] else {})
                start = "inside/"
                own = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
                self._read = inside, own
        except CheckpointError as error:
            text = str(error)
            named = text if str(self.folder.path) in text else f"{self.folder.path}: {text}"
            raise CheckpointError(named) from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise CheckpointError(
                f"{self.folder.path}/{STATE} does not hold together: {error}"
            ) from None
        self.folder.tidy(facts)
        self.folder.saved = where

    # -- a half-step -------------------------------------------------------------------------------

    @contextmanager
    def half_step(
        self,
        n: int,
        way: Direction,
        regression: Regression,
        spent: Callable[[], dict[str, float]],
    ) -> Iterator[None]:
        """Around half-step n, as it begins: Ctrl-C is noticed, an ArithmeticError is written down.

        spent: seconds of this half-step by part, in this run.
        """
        if self.keeps:
            self._base = take(self._transport, self._networks.known)
        self._regression = json.loads(json.dumps(describe_regression(regression)))
        self._spent = spent
        lr: float | None = getattr(regression, "lr", None)
        try:
            with interruptible(self.keeps) as self._interrupt:
                yield
        except ArithmeticError as error:
            rate = "" if lr is None else f", lr={lr:g}"
            told = ArithmeticError(f"half-step {n} ({way} drift{rate}): {error}")
            self.folder.mark_diverged(told, lr)
            if self.keeps:
                told = ArithmeticError(f"{told} ({self.folder.stays()} in {self.folder.path})")
            raise told from error

    def begin(self, learner: Learner, budget: Budget) -> None:
        """Put what was read of the half-step in progress into the learner and the budget."""
        if self._read is None:
            return
        facts, tensors = self._read
        learner.restore(tensors, facts["scaler"])
        budget.start(facts["step"])

    def after(self, learner: Learner, budget: Budget) -> None:
        """After a step of the regression: save where it is time to, or Ctrl-C was pressed."""
        if not self.keeps:
            return
        due = self.ranks.first and self.folder.due(budget.done)
        stop, due = map(bool, self.ranks.sum(self._interrupt.asked, due))
        if stop or due:
            learner.read()
            learner.check_finite()
            inside = {
                "step": budget.done,
                "scaler": learner.scaler.state_dict(),
                "paths": self.sizes.get(len(self.states) + 1),
                "seconds": self.seconds(),
            }
            self._write(budget.done, inside, learner.state())
        if stop:
            self._stop()

    def finish(self) -> None:
        """After a half-step whose state is among the states: write it."""
        self._read = None
        if not self.keeps:
            return
        self._base = take(self._transport, self._networks.known)
        self._write(0, None, {})
        (stop,) = self.ranks.sum(self._interrupt.asked)
        if stop:
            self._stop()

    def seconds(self) -> dict[str, float]:
        """Of the half-step in progress so far, by part, those of earlier runs included."""
        before = {} if self._read is None else self._read[0]["seconds"]
        return {part: v + before.get(part, 0.0) for part, v in self._spent().items()}

    def _write(self, step: int, inside: Facts | None, learner: Tensors) -> None:
        self.folder.begin_wait()
        if not self.folder.writes:
            return
        kept, tensors = self._base
        losses = {
            f"losses/{s.half_step}": torch.tensor(s.losses, dtype=torch.float64)
            for s in self.states
        }
        facts = {
            "half_step": len(self.states),
            "step": step,
            "loss": {"status": "finite"},
            "settings": self.folder.settings,
            "regression": self._regression,
            "states": [to_plain(s) for s in self.states],
            **kept,
            "inside": inside,
            "versions": versions(),
        }
        own = {f"inside/{k}": v for k, v in learner.items()}
        times = {"times": self._transport.grid.times}
        self.folder.write(facts, {**tensors, **losses, **own, **times})
        self.folder.saved = _place(len(self.states), inside)

    def _stop(self) -> None:
        raise KeyboardInterrupt(
            f"stopped by Ctrl-C, {self.folder.saved} saved in {self.folder.path}: give the same "
            "command again to go on"
        )


def _place(done: int, inside: Facts | None) -> str:
    return f"half-step {done}" if inside is None else f"half-step {done + 1}, step {inside['step']}"


def _differing(theirs: Facts, own: Facts) -> tuple[Facts, Facts]:
    """Both, with those entries alone of what has entries that are others, or that one lacks."""
    left, right = dict(theirs), dict(own)
    for name in own:
        a, b = theirs.get(name), own[name]
        if isinstance(a, dict) and isinstance(b, dict) and a.get("name") == b.get("name"):
            left[name] = {k: v for k, v in a.items() if k not in b or b[k] != v}
            right[name] = {k: v for k, v in b.items() if k not in a or a[k] != v}
    return left, right
