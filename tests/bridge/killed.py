"""A bridge's fit that is killed, in a process of its own: python killed.py FOLDER.

random: children that fit are killed by SIGKILL after random times and started again, until one
comes to the end. calls: each child dies within a save, just before its n-th call that writes,
n = 1, 2, .. Prints JSON, for both ways and each algorithm: hashes of both drifts' samples at the
ends, and where the folder stood after each kill. Children are forked: importing torch for each
would take seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from sdekit.bridge import Adam, load
from sdekit.bridge.keeper import FORMAT, Keeper
from sdekit.train.budget import Budget
from sdekit.train.learner import Learner
from sdekit.train.state import read_state
from tests.bridge.folders import make, samples
from tests.processes import fork


def fit(
    algorithm: str, folder: Path | None, *, steps: int = 20, half_steps: int = 3, every: int = 4
) -> str:
    """Hash of what the bridge does at the end."""
    bridge = make(algorithm, regression=Adam(steps=steps, batch=16), half_steps=half_steps)
    states = bridge.fit(folder=folder, save_steps=every, save_seconds=None)
    told = repr([(s.half_step, s.losses, s.measures) for s in states]).encode()
    return hashlib.sha256(samples(bridge).numpy().tobytes() + told).hexdigest()


def place(run: Path) -> list[int]:
    """Half-steps done and the step of the next one, of a pair that must be whole and usable."""
    found = read_state(run, FORMAT) if run.exists() else None
    if found is None:
        return [-1, 0]
    load(run)
    return [found[0]["half_step"], found[0]["step"]]


def at_random(folder: Path, algorithm: str) -> dict[str, Any]:
    """Kill children at random moments."""
    want = fit(algorithm, None)
    begin = time.perf_counter()
    whole = fit(algorithm, folder / "whole")
    span = time.perf_counter() - begin
    run, chance = folder / "killed", Random(7)
    places: list[list[int]] = []
    while True:
        child = fork(lambda: (folder / "got").write_text(fit(algorithm, run)))
        # The first one is killed early on: before there is a checkpoint, perhaps.
        time.sleep(chance.uniform(0.0, 0.35 * span if places else 0.02))
        done, status = os.waitpid(child, os.WNOHANG)
        if done == 0:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            break
        places.append(place(run))
    return {
        "code": os.WEXITSTATUS(status),
        "want": want,
        "whole": whole,
        "got": (folder / "got").read_text() if os.WEXITSTATUS(status) == 0 else "",
        "places": places,
        "files": sorted(p.name.split("-")[0] for p in run.iterdir()),
    }


PLACES: list[tuple[Any, str]] = [
    (tempfile, "mkstemp"),
    (os, "fdopen"),
    (os, "fsync"),
    (os, "chmod"),
    (os, "replace"),
    (os, "unlink"),
    (Path, "unlink"),
]

SHORT: dict[str, Any] = {"steps": 4, "half_steps": 2, "every": 2}


def at_calls(folder: Path, algorithm: str) -> dict[str, Any]:
    """Kill children just before each call that changes the disk, from half-step 1, step 2, on."""
    want, places, ends = fit(algorithm, None, **SHORT), [], []
    begun = folder / "begun"
    os.waitpid(fork(lambda: stop_after(algorithm, begun, 3)), 0)
    for n in range(1, 200):
        run, count = folder / f"run{n}", 0
        shutil.copytree(begun, run)

        def dying(call: Callable[..., Any], n: int = n) -> Callable[..., Any]:
            def counted(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == n:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return counted

        def work(run: Path = run, dying: Callable[..., Any] = dying) -> None:
            for module, name in PLACES:
                setattr(module, name, dying(getattr(module, name)))
            # Saves of half-step 1 at its last step and at its end.
            stop_after(algorithm, run, 3)

        _, status = os.waitpid(fork(work), 0)
        places.append(place(run))
        ends.append(fit(algorithm, run, **SHORT))
        if not os.WIFSIGNALED(status):
            break
    return {"want": want, "places": places, "ends": ends}


def stop_after(algorithm: str, run: Path, steps: int) -> None:
    """Fit, and end the process after so many steps."""
    own, left = Keeper.after, steps

    def after(keeper: Keeper, learner: Learner, budget: Budget) -> None:
        nonlocal left
        own(keeper, learner, budget)
        left -= 1
        if left == 0:
            os._exit(0)

    Keeper.after = after  # type: ignore[method-assign]
    fit(algorithm, run, **SHORT)


if __name__ == "__main__":
    torch.set_num_threads(1)
    found: dict[str, Any] = {"random": {}, "calls": {}}
    for algorithm in ("dsb", "dsbm", "one net"):
        own = Path(sys.argv[1]) / algorithm
        own.mkdir()
        found["random"][algorithm] = at_random(own, algorithm)
        # What is written, and when, is one for all; the one network's fixed copy is another state.
        if algorithm != "dsbm":
            found["calls"][algorithm] = at_calls(own, algorithm)
    print(json.dumps(found))
