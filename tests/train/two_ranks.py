"""The same training in one process and in two, with the variables that torchrun sets.

python two_ranks.py FOLDER prints JSON: the losses of each, the weights' largest difference, and
those of a run of two that is stopped half way and gone on with.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from sdekit.likelihood import DataTransform
from sdekit.score import MLP
from sdekit.sde import VP
from sdekit.train import train
from sdekit.train.learner import READ_EVERY
from tests.processes import as_ranks

STEPS = 12


class Stop(Exception):
    """Half way."""


def fit(
    out: Path, loss: str, stop: int | None = None, run: Path | None = None, seldom: bool = False
) -> None:
    """Train and write losses and weights; stops after so many steps."""
    sde, losses = VP(), []
    net = MLP((4,), 16, 1, sde=sde, seed=1)
    with torch.no_grad():
        # Other weights in the second process: the first one's must count.
        net.inlet.bias.add_(float(os.environ.get("RANK", 0)))
    data = torch.arange(400).view(100, 4) % 5

    def on_step(done: int, way: float, value: float) -> None:
        losses.append(value)
        if done == stop:
            raise Stop

    options: dict[str, Any] = {"loss": loss, "on_step": on_step, "folder": run, "save_steps": 4}
    if seldom:
        # As on GPUs; the first process alone finds that it is time to save, after each step.
        READ_EVERY["cpu"] = 5
        late = 0.0 if os.environ.get("RANK", "0") == "0" else None
        options |= {"save_steps": None, "save_seconds": late}
    try:
        # 27 rows are 13 and 14.
        train(net, sde, data, DataTransform(5), steps=STEPS, batch=27, clip=0.5, **options)
    except Stop:
        return
    flat = torch.cat([p.detach().flatten() for p in net.parameters()])
    out.write_text(json.dumps({"losses": losses, "weights": flat.tolist()}))


def fit_two(folder: Path, *args: Any, **options: Any) -> list[dict[str, Any]]:
    """Both processes' results."""
    as_ranks(2, lambda rank: fit(folder / f"rank{rank}.json", *args, **options))
    files = [folder / f"rank{rank}.json" for rank in range(2)]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def main(folder: Path) -> None:
    """See the module's docstring."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for loss in ("dsm", "ism"):
        fit(folder / "one.json", loss)
        one = json.loads((folder / "one.json").read_text())
        found[loss] = {"one": one, "two": fit_two(folder, loss)}
    found["seldom"] = fit_two(folder, "dsm", run=folder / "seldom", seldom=True)
    fit_two(folder, "dsm", stop=7, run=folder / "run")
    found["resumed"] = fit_two(folder, "dsm", run=folder / "run")
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
