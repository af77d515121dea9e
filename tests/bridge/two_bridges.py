"""Bridges in one process and in several, with the variables that torchrun sets.

python two_bridges.py FOLDER writes found.json there and prints its path: hashes of a cache, samples
of fits, what was refused, each process' own; and those of torchrun's elastic agent, of whose two
processes one kills itself in its first life. Processes are forked: importing torch for each would
take seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sdekit_kernels
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from sdekit.bridge import Adam, Cache, NetworkDrift
from sdekit.bridge import cache as pieces
from sdekit.bridge.driver import Driver
from sdekit.bridge.keeper import Keeper
from sdekit.train.budget import Budget
from sdekit.train.learner import Learner
from tests.bridge.folders import Crashing, X, Y, make, net, samples
from tests.processes import as_ranks

ALGORITHMS = ("dsb", "dsbm", "one net", "least squares")


def small(algorithm: str, **more: Any) -> Driver:
    """In float64; batches of 15 rows are 7 and 8, a filling of 64 paths is 8 pieces."""
    pieces.LEAST = 8  # type: ignore[misc]
    nets = {"make_net": None} if algorithm in ("dsb", "dsbm") else {}
    options: dict[str, Any] = nets | {"half_steps": 2}
    if algorithm != "least squares":
        options["regression"] = Adam(steps=12, batch=15)
    if algorithm == "one net":
        options["nets"] = make("one net").networks.one.double()  # type: ignore[union-attr]
    return make(algorithm, (X.double(), Y.double()), **options | more)


def digest(value: Tensor) -> str:
    return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()


def cached() -> dict[str, Any]:
    """A cache of network paths in float32, whose rounding depends on how many rows go together."""
    bridge = make("dsb")
    drift = NetworkDrift(net(width=32), bridge.grid, "backward")
    with torch.no_grad():
        for i, p in enumerate(drift.net.parameters()):
            p.copy_(0.3 * sdekit_kernels.normal(tuple(p.shape), seed=i, stream=9))
    pieces.LEAST = 8  # type: ignore[misc]
    made: list[int] = []
    simulate = bridge.transport.simulate

    def counted(starts: Tensor, *args: Any, **options: Any) -> Tensor:
        made.append(len(starts))
        return simulate(starts, *args, **options)

    with bridge._kept(None, None, None):
        type(bridge.transport).simulate = lambda self, *a, **k: counted(*a, **k)  # type: ignore
        try:
            paths = bridge.trajectories(2, "backward", drift, ends=False).all()
        finally:
            type(bridge.transport).simulate = simulate.__func__  # type: ignore
    return {"bits": digest(paths), "made": made}


def fitted(algorithm: str, **more: Any) -> dict[str, Any]:
    """Of a fit: samples, losses, and the ranges that its networks have seen."""
    bridge = small(algorithm, **more)
    states = bridge.fit()
    losses = [list(s.losses) for s in states]
    buffers = [dict(net.named_buffers()) for net in bridge.networks.known.values()]
    return {
        "samples": samples(bridge).flatten().tolist(),
        "losses": losses,
        "ranges": [each[name].tolist() for each in buffers for name in ("low", "high")],
    }


def resumed(run: Path) -> dict[str, Any]:
    """A fit that crashed on its way, gone on with."""
    bridge = small("dsbm")
    with Crashing(19):
        bridge.fit(folder=run, save_steps=5)
    again = small("dsbm")
    again.fit(folder=run)
    return {"samples": samples(again).flatten().tolist()}


def diverged(run: Path) -> dict[str, Any]:
    """Paths of the second process alone leave the finite numbers: both must say so."""
    bridge = small("dsbm")
    simulate = type(bridge.transport).simulate

    def spoilt(self: Any, starts: Tensor, *args: Any, **options: Any) -> Tensor:
        if options.get("ends") and os.environ.get("RANK") == "1":
            raise ArithmeticError("3 paths left the finite numbers")
        return simulate(self, starts, *args, **options)

    type(bridge.transport).simulate = spoilt  # type: ignore[method-assign]
    try:
        bridge.fit(folder=run)
    except ArithmeticError as error:
        return {"told": str(error), "done": bridge.half_step}
    finally:
        type(bridge.transport).simulate = simulate  # type: ignore[method-assign]
    return {"told": "", "done": bridge.half_step}


def cached_by_memory() -> dict[str, Any]:
    """What is free is another number in each process."""
    room = 10_000 + 5_000 * int(os.environ.get("RANK", "0"))
    pieces._available = lambda device: room  # type: ignore[assignment]
    bridge = small("dsbm", cache=Cache(paths=None, memory=1 << 40), half_steps=2)
    bridge.fit()
    return {"paths": bridge._sizes[2]}


def ranks(world: int, folder: Path, work: Callable[[], Any]) -> list[Any]:
    """What ``work`` gives in each of so many processes."""

    def told(rank: int) -> None:
        dist.init_process_group("gloo")
        (folder / f"rank{rank}.json").write_text(json.dumps(work()))
        dist.destroy_process_group()

    as_ranks(world, told)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(world)]


def all_together(folder: Path) -> dict[str, Any]:
    """What one process of two does."""
    return {
        "cache": cached(),
        "fits": {a: fitted(a) for a in ALGORITHMS},
        "resumed": resumed(folder / "resumed"),
        "diverged": diverged(folder / "diverged"),
        "memory": cached_by_memory(),
    }


def worker(folder: Path) -> None:
    """One process of the elastic agent."""
    rank, life = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    after, left = Keeper.after, 19

    def dying(keeper: Keeper, learner: Learner, budget: Budget) -> None:
        nonlocal left
        after(keeper, learner, budget)
        left -= 1
        if left == 0 and (rank, life) == ("1", "0"):
            os.kill(os.getpid(), signal.SIGKILL)

    Keeper.after = dying  # type: ignore[method-assign]
    bridge = small("dsbm")
    states = bridge.fit(folder=folder / "run", save_steps=5)
    # A second fit of one program opens the processes' group once more.
    small("dsbm", half_steps=1).fit()
    found = {"samples": samples(bridge).flatten().tolist(), "life": life, "done": len(states)}
    (folder / f"worker{rank}.json").write_text(json.dumps(found))


def under_agent(folder: Path) -> list[Any]:
    """As ``torchrun --standalone --nproc-per-node=2 --max-restarts=1`` starts them."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id="bridge",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=1,
        monitor_interval=0.05,
        start_method="fork",
    )
    elastic_launch(config, worker)(folder)
    return [json.loads((folder / f"worker{rank}.json").read_text()) for rank in range(2)]


def main(folder: Path) -> None:
    """See the module's docstring."""
    found: dict[str, Any] = {"one": {"cache": cached(), "fits": {a: fitted(a) for a in ALGORITHMS}}}
    found["two"] = ranks(2, folder, lambda: all_together(folder))
    found["three"] = ranks(3, folder, cached)
    found["agent"] = under_agent(folder)
    (folder / "found.json").write_text(json.dumps(found))
    print(json.dumps(str(folder / "found.json")))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
