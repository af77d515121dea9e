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
import sys
import time
from pathlib import Path
from typing import Any

import torch

from sdekit.bridge import Adam, load
from sdekit.bridge.keeper import FORMAT, Keeper
from sdekit.train.budget import Budget
from sdekit.train.learner import Learner
from sdekit.train.state import read_state
from tests.bridge.folders import make, samples
from tests.processes import fork, kill_at_random, killed_at_write


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
    run = folder / "killed"
    places: list[list[int]] = []
    code = kill_at_random(
        lambda: (folder / "got").write_text(fit(algorithm, run)),
        0.35 * span,
        lambda: places.append(place(run)),
    )
    return {
        "code": code,
        "want": want,
        "whole": whole,
        "got": (folder / "got").read_text() if code == 0 else "",
        "places": places,
        "files": sorted(p.name.split("-")[0] for p in run.iterdir()),
    }


SHORT: dict[str, Any] = {"steps": 4, "half_steps": 2, "every": 2}


def at_calls(folder: Path, algorithm: str) -> dict[str, Any]:
    """Kill children just before each call that changes the disk, from half-step 1, step 2, on."""
    want, places, ends = fit(algorithm, None, **SHORT), [], []
    begun = folder / "begun"
    os.waitpid(fork(lambda: stop_after(algorithm, begun, 3)), 0)
    for n in range(1, 200):
        run = folder / f"run{n}"
        shutil.copytree(begun, run)
        # Saves of half-step 1 at its last step and at its end.
        died = killed_at_write(n, lambda run=run: stop_after(algorithm, run, 3))
        places.append(place(run))
        ends.append(fit(algorithm, run, **SHORT))
        if not died:
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
