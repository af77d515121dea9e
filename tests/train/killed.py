"""A training that is killed, in a process of its own: python killed.py random|calls FOLDER.

random: children that train are killed by SIGKILL after random times and started again, until one
comes to the end. calls: each child dies within a save, just before its n-th call that writes,
n = 1, 2, .. Prints JSON: hashes of the weights at the ends, and the steps that were left on disk.
Children are forked: importing torch for each would take seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from sdekit.likelihood import DataTransform
from sdekit.score import MLP
from sdekit.sde import VP
from sdekit.train import load_checkpoint, train
from sdekit.train.state import read_state
from tests.processes import fork, kill_at_random, killed_at_write

STEPS = 120


def fit(folder: Path | None, steps: int = STEPS, every: int = 3) -> str:
    """Hash of the weights at the end of the training."""
    sde = VP()
    net = MLP((4,), 16, 1, sde=sde, seed=1)
    data = torch.arange(400).view(100, 4) % 5
    options: dict[str, Any] = {"folder": folder, "save_steps": every}
    train(net, sde, data, DataTransform(5), steps=steps, batch=8, clip=1.0, **options)
    digest = hashlib.sha256()
    for p in net.parameters():
        digest.update(p.detach().numpy().tobytes())
    return digest.hexdigest()


def step_on_disk(run: Path) -> int:
    """The step of the pair, which must be whole; -1 for none yet."""
    state = read_state(run) if run.exists() else None
    if (run / "model.safetensors").exists():
        load_checkpoint(run)
    return -1 if state is None else int(state[0]["step"])


def at_random(folder: Path) -> dict[str, Any]:
    """Kill children at random moments."""
    want = fit(None)
    begin = time.perf_counter()
    whole = fit(folder / "whole")
    span = time.perf_counter() - begin
    run = folder / "killed"
    steps: list[int] = []
    code = kill_at_random(
        lambda: (folder / "got").write_text(fit(run)),
        0.25 * span,
        lambda: steps.append(step_on_disk(run)),
    )
    return {
        "code": code,
        "want": want,
        "whole": whole,
        "got": (folder / "got").read_text(),
        "killed": len(steps),
        "steps": steps,
        "files": sorted(p.name.split("-")[0] for p in run.iterdir()),
    }


def at_calls(folder: Path) -> dict[str, Any]:
    """Kill children just before each call that changes the disk, in the saves after step 4."""
    want, steps, ends = fit(None, 12, 4), [], []
    for n in range(1, 200):
        run = folder / f"run{n}"
        if step_on_disk(run) < 0:
            # The checkpoint of step 4, from which each of them goes on.
            os.waitpid(fork(lambda run=run: stop_after(run, 4)), 0)
        died = killed_at_write(n, lambda run=run: stop_after(run, 8))
        steps.append(step_on_disk(run))
        ends.append(fit(run, 12, 4))
        if not died:
            break
    return {"want": want, "steps": steps, "ends": ends}


def stop_after(run: Path, step: int) -> None:
    """Train until the checkpoint of this step stands."""

    def on_step(done: int, way: float, loss: float) -> None:
        if done == step + 1:
            os._exit(0)

    sde = VP()
    net = MLP((4,), 16, 1, sde=sde, seed=1)
    data = torch.arange(400).view(100, 4) % 5
    options: dict[str, Any] = {"folder": run, "save_steps": 4, "on_step": on_step}
    train(net, sde, data, DataTransform(5), steps=12, batch=8, clip=1.0, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    way = {"random": at_random, "calls": at_calls}[sys.argv[1]]
    print(json.dumps(way(Path(sys.argv[2]))))
